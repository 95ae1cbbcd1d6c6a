import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { METRICS, type Declaration } from '../../../src/metrics/catalogue.js';
import { formatFor, OPEN_METRICS, render, TEXT } from '../../../src/metrics/format.js';
import { Registry } from '../../../src/metrics/instruments.js';
import { promtoolMissing } from '../../support/metrics.js';

test('OpenMetrics goes to who asks for it, plain text to everybody else', () => {
  const open = [
    'application/openmetrics-text',
    'application/openmetrics-text; version=1.0.0; charset=utf-8',
    'application/openmetrics-text;version="0.0.1";q=0.5,text/plain;q=0.5',
    'Application/OpenMetrics-Text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1',
  ];
  const text = [
    undefined,
    '',
    '*/*',
    'text/plain',
    'text/html,application/xhtml+xml',
    'application/openmetrics-text;q=0',
    'application/openmetrics-text;q=0.1,text/plain;q=0.9',
    'application/openmetrics-text;version=2.0.0',
    'application/openmetrics-text;q=nonsense',
    'application/openmetrics-text;q=7',
    ',;,=;q=',
  ];
  for (const accept of open) assert.equal(formatFor(accept), OPEN_METRICS, accept);
  for (const accept of text) assert.equal(formatFor(accept), TEXT, accept);
});

test('a histogram counts each value in its bucket and all above it', () => {
  const registry = new Registry();
  const commits = registry.histogram(METRICS.journalBatch).with();
  for (const value of [0, 1, 1.5, 4096, 5000]) commits.observe(value);
  assert.equal(registry.histogram(METRICS.journalBatch).with(), commits);
  assert.deepEqual(commits.cumulative, [2, 3, 3, 3, 3, 3, 4, 5]);
  const text = render(registry.families, TEXT);
  assert.match(text, /^# TYPE yggdrasil_journal_batch_changes histogram$/m);
  assert.match(text, /^yggdrasil_journal_batch_changes_bucket\{le="1\.0"\} 2$/m);
  assert.match(text, /^yggdrasil_journal_batch_changes_bucket\{le="\+Inf"\} 5$/m);
  assert.match(text, /^yggdrasil_journal_batch_changes_sum 9098\.5$/m);
  assert.match(text, /^yggdrasil_journal_batch_changes_count 5$/m);
});

test('what labels hold is escaped, and numbers of every kind are written', () => {
  const registry = new Registry();
  registry.count(METRICS.resultsAccepted).with('a"b\\c\nd').add(2);
  registry.count(METRICS.maxDescriptors).with().value = Infinity;
  registry.count(METRICS.spool).with().value = -Infinity;
  registry.count(METRICS.dead).with().value = NaN;
  registry.summary(METRICS.loopDelay).put({ labels: [], quantiles: [[0.5, 0.001]], count: 2, sum: 0.5 });
  const text = render(registry.families, TEXT);
  assert.match(text, /^yggdrasil_results_accepted_total\{worker="a\\"b\\\\c\\nd"\} 2$/m);
  assert.match(text, /^process_max_fds \+Inf$/m);
  assert.match(text, /^yggdrasil_spool_bytes -Inf$/m);
  assert.match(text, /^yggdrasil_journal_dead NaN$/m);
  assert.match(text, /^yggdrasil_event_loop_delay_seconds\{quantile="0\.5"\} 0\.001$/m);
  const open = render(registry.families, OPEN_METRICS);
  assert.match(open, /^# TYPE yggdrasil_results_accepted counter$/m);
  assert.match(open, /^yggdrasil_results_accepted_total\{/m);
  assert.match(open, /\n# EOF\n$/);
  assert.equal(render(new Registry().families, OPEN_METRICS), '# EOF\n');
});

test('a family that is cleared has no series, and says nothing', () => {
  const registry = new Registry();
  registry.count(METRICS.workerState).with('a', 'running').add();
  registry.count(METRICS.workerState).clear();
  assert.equal(render(registry.families, TEXT), '\n');
});

test('each declaration keeps the conventions, and promtool has nothing to say', { skip: promtoolMissing }, () => {
  const registry = new Registry();
  const { loopDelay, ...others } = METRICS;
  registry.summary(loopDelay).put({ labels: [], quantiles: [[0.5, 1]], count: 1, sum: 1 });
  for (const declaration of Object.values<Declaration>(others)) {
    const labels = declaration.labels.map(() => 'x');
    if (isHistogram(declaration))
      registry
        .histogram(declaration)
        .with(...labels)
        .observe(1);
    else if (isCount(declaration))
      registry
        .count(declaration)
        .with(...labels)
        .add();
  }
  const names = Object.values<Declaration>(METRICS).map(({ name }) => name);
  assert.equal(new Set(names).size, names.length);
  const input = render(registry.families, TEXT);
  for (const name of names) assert.match(input, new RegExp(`^# TYPE ${name} `, 'm'));
  const { status, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], { input, encoding: 'utf8' });
  assert.deepEqual([status, stdout, stderr], [0, '', '']);
});

function isHistogram(declaration: Declaration): declaration is Declaration<'histogram'> {
  return declaration.type === 'histogram';
}

function isCount(declaration: Declaration): declaration is Declaration<'counter' | 'gauge'> {
  return declaration.type === 'counter' || declaration.type === 'gauge';
}
