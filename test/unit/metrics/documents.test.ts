/** The dashboard and the alert rules name metrics that exist, and Prometheus can read their expressions. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { METRICS, type Declaration } from '../../../src/metrics/catalogue.js';
import { promtoolMissing } from '../../support/metrics.js';
import { tempDir } from '../../support/temp.js';

const DOCS = join(import.meta.dirname, '../../../docs');
const ALL = Object.values<Declaration>(METRICS);

/** Every name that a series may have. */
const SERIES = new Set(
  ALL.flatMap(({ name, type }) =>
    type === 'histogram' ? ['_bucket', '_sum', '_count'].map((end) => name + end) : [name],
  ),
);

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly datasource?: unknown;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets?: readonly { readonly expr: string; readonly refId: string; readonly datasource: unknown }[];
}

interface Dashboard {
  readonly panels: readonly Panel[];
  readonly templating: {
    readonly list: readonly { readonly name: string; readonly type: string; readonly query: unknown }[];
  };
}

async function dashboard(): Promise<Dashboard> {
  return JSON.parse(await readFile(join(DOCS, 'grafana-dashboard.json'), 'utf8')) as Dashboard;
}

/** Words of an expression that name a series. */
function namesIn(text: string): readonly string[] {
  return [...text.matchAll(/\b(?:yggdrasil|process|nodejs)_[a-z_0-9]+/g)].map(([name]) => name);
}

test('every metric that the dashboard names exists, and every metric that exists is shown', async () => {
  const { panels, templating } = await dashboard();
  const expressions = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
  const named = new Set([...expressions.flatMap(namesIn), ...namesIn(JSON.stringify(templating))]);
  assert.deepEqual(
    [...named].filter((name) => !SERIES.has(name)),
    [],
  );
  const shown = ALL.filter(({ name }) => [...named].some((each) => each === name || each.startsWith(`${name}_`)));
  assert.deepEqual(
    ALL.filter((metric) => !shown.includes(metric)).map(({ name }) => name),
    [],
  );
});

test('the dashboard takes its data source from a variable, and its panels do not overlap', async () => {
  const { panels, templating } = await dashboard();
  const [source] = templating.list;
  assert.deepEqual([source?.name, source?.type, source?.query], ['datasource', 'datasource', 'prometheus']);
  const chosen = { type: 'prometheus', uid: '${datasource}' };
  assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  const taken = new Set<string>();
  for (const { type, title, datasource, gridPos, targets = [] } of panels) {
    if (type !== 'row') assert.deepEqual(datasource, chosen, title);
    for (const target of targets) assert.deepEqual(target.datasource, chosen, title);
    assert.equal(new Set(targets.map(({ refId }) => refId)).size, targets.length, title);
    assert.equal(gridPos.x + gridPos.w <= 24, true, title);
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        assert.equal(taken.has(`${x},${y}`), false, `${title} lies on another panel`);
        taken.add(`${x},${y}`);
      }
    }
  }
});

test('Prometheus can read each expression of the dashboard', { skip: promtoolMissing }, async () => {
  const { panels } = await dashboard();
  const rules = panels
    .flatMap(({ targets = [] }) => targets)
    .map(({ expr }, index) => ({
      record: `panel:query:${index}`,
      expr: expr.replaceAll(/\$__(?:rate_interval|range)/g, '5m').replaceAll(/\$(?:instance|directive)/g, '.*'),
    }));
  await using dir = await tempDir();
  const file = join(dir.path, 'rules.json');
  // JSON is YAML.
  await writeFile(file, JSON.stringify({ groups: [{ name: 'dashboard', rules }] }));
  const { status, stdout, stderr } = spawnSync('promtool', ['check', 'rules', file], { encoding: 'utf8' });
  assert.equal(status, 0, stdout + stderr);
  assert.match(stdout, new RegExp(`SUCCESS: ${rules.length} rules found`));
});

test('every metric that an alert names exists', async () => {
  const text = await readFile(join(DOCS, 'prometheus-alerts.yml'), 'utf8');
  const named = namesIn(text);
  assert.equal(named.length > 15, true);
  assert.deepEqual(
    named.filter((name) => !SERIES.has(name)),
    [],
  );
});

test('promtool takes the alerts, and they come when they should', { skip: promtoolMissing }, async () => {
  const file = join(DOCS, 'prometheus-alerts.yml');
  const checked = spawnSync('promtool', ['check', 'rules', file], { encoding: 'utf8' });
  assert.deepEqual([checked.status, checked.stderr], [0, '']);

  await using dir = await tempDir();
  // Without their texts, which would have to be repeated here.
  const rules = join(dir.path, 'rules.yml');
  const lines = (await readFile(file, 'utf8')).split('\n');
  await writeFile(rules, lines.filter((line) => !/^\s+(?:annotations|summary|description):/.test(line)).join('\n'));
  const dead = '{instance="edge",directive="echo",state="dead",reason="worker-failed"}';
  const worker = (state: string): string =>
    `yggdrasil_worker_state{instance="edge",worker="echo-worker",state="${state}"}`;
  const inputs: Readonly<Record<string, string>> = {
    [`yggdrasil_messages_ended_total${dead}`]: '0x10 1x35',
    'yggdrasil_connection_up{instance="edge"}': '1x5 0x40',
    'yggdrasil_connection_up{instance="well"}': '1x45',
    [worker('backoff')]: '0x5 1x40',
    [worker('running')]: '1x5 0x40',
    'yggdrasil_spool_bytes{instance="edge"}': '0x5 750x40',
    'yggdrasil_spool_limit_bytes{instance="edge"}': '1000x45',
  };
  const comes = (alertname: string, time: string, labels?: Readonly<Record<string, string>>): object => ({
    eval_time: time,
    alertname,
    exp_alerts: labels === undefined ? [] : [{ exp_labels: { instance: 'edge', ...labels } }],
  });
  const warning = { severity: 'warning' };
  const gone = { ...warning, directive: 'echo', state: 'dead', reason: 'worker-failed' };
  await writeFile(
    join(dir.path, 'tests.json'),
    JSON.stringify({
      rule_files: [rules],
      tests: [
        {
          interval: '1m',
          input_series: Object.entries(inputs).map(([series, values]) => ({ series, values })),
          alert_rule_test: [
            comes('YggdrasilMessagesGivenUp', '9m'),
            comes('YggdrasilMessagesGivenUp', '14m', gone),
            comes('YggdrasilMessagesGivenUp', '40m'),
            comes('YggdrasilOffline', '10m'),
            comes('YggdrasilOffline', '20m', { severity: 'critical' }),
            comes('YggdrasilWorkerDown', '5m'),
            comes('YggdrasilWorkerDown', '20m', { ...warning, worker: 'echo-worker', state: 'backoff' }),
            comes('YggdrasilSpoolFull', '5m'),
            comes('YggdrasilSpoolFull', '20m', warning),
          ],
        },
      ],
    }),
  );
  const tested = spawnSync('promtool', ['test', 'rules', join(dir.path, 'tests.json')], { encoding: 'utf8' });
  assert.equal(tested.status, 0, tested.stdout + tested.stderr);
});
