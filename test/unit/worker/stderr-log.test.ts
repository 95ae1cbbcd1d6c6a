import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stderrLog } from '../../../src/worker/stderr-log.js';

test('a line holds level, event, text and fields, and is one line whatever the text holds', () => {
  const lines: string[] = [];
  stderrLog('INFO', (line) => lines.push(line))
    .child({ a: 1 })
    .warn('x.y', 'two\nlines', { b: 'c\nd' });
  assert.deepEqual(lines, ['WARN x.y: two lines a=1 b="c\\nd"\n']);
});

test('only lines of the level and above are written', () => {
  const levels = (level: string): string[] => {
    const lines: string[] = [];
    const log = stderrLog(level, (line) => lines.push(line));
    for (const at of ['error', 'warn', 'info', 'debug', 'trace'] as const) log[at]('e', '');
    return lines.map((line) => line.split(' ')[0] ?? '');
  };
  assert.deepEqual(levels('ERROR'), ['ERROR']);
  assert.deepEqual(levels('trace').length, 5);
  assert.deepEqual(levels('nonsense'), ['ERROR', 'WARN', 'INFO']);
  assert.equal(stderrLog('warn', () => undefined).isEnabled('info'), false);
});
