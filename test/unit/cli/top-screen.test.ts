/** The live view as lines: it fits the terminal, counts by the second, and nothing in it steers the terminal. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { AgentStatus } from '../../../src/admin/index.js';
import { screenLines, type Screen } from '../../../src/cli/top-screen.js';

function status(accepted: bigint, delivered: bigint, more: Partial<AgentStatus> = {}): AgentStatus {
  const worker = { state: 'running', pid: 7, startedAt: 1n, restarts: 0, detail: '', directives: ['echo'] };
  return {
    ...{ version: '1', clientId: 'host-1', pid: 1, startedAt: 1n },
    link: { state: 'up', broker: 'mqtt://b', protocol: 'MQTT 5', reason: '', session: undefined },
    queues: {
      ...{ pending: 3n, dead: 1n, spoolBytes: 10n, spoolLimit: 1024n },
      ...{ accepted, duplicates: 0n, refused: 0n },
    },
    workers: [
      { ...worker, name: 'echo-worker', isRegistered: true, delivered, perMinute: 5 },
      { ...worker, name: 'bad-worker', state: 'backoff', isRegistered: false, delivered: 0n, perMinute: 0 },
    ],
    ...more,
  };
}

const event = (name: string): Screen['events'][number] => ({
  ...{ at: 1000, kind: 'message', name, key: 4n, messageId: 'm\u001b[2J', directive: 'echo', worker: '', detail: '' },
});

const screen = (more: Partial<Screen> = {}): Screen => ({
  ...{ now: 61_000, columns: 100, rows: 20, hasColour: false, events: [event('dead')], before: undefined },
  sample: { status: status(10n, 4n), at: 1000 },
  ...more,
});

describe('the live view', () => {
  test('counts by the second from the status before', () => {
    const first = screenLines(screen());
    assert.ok(first.includes('a second  - accepted, - repeated, - refused'));
    const before = { status: status(10n, 4n), at: 1000 };
    const later = screenLines(screen({ before, sample: { status: status(25n, 1004n), at: 2500 } }));
    assert.ok(later.includes('a second  10 accepted, 0.0 repeated, 0.0 refused'), later.join('\n'));
    assert.match(later.join('\n'), /echo-worker +667 +running/);
    const again = screenLines(screen({ before, sample: { status: status(1n, 0n), at: 2500 } }));
    assert.match(again.join('\n'), /a second {2}- accepted/, 'an agent that started again counts anew');
    assert.match(screenLines(screen({ before, sample: before })).join('\n'), /echo-worker +- +running/);
  });

  test('fits the terminal, however small it is', () => {
    for (const rows of [1, 5, 8, 12, 24]) {
      for (const columns of [10, 40, 200]) {
        const many = Array.from({ length: 50 }, (_, n) => event(`e${n}`));
        const lines = screenLines(screen({ rows, columns, events: many }));
        assert.equal(lines.length <= rows || lines.length === 1, true, `${lines.length} lines in ${rows} rows`);
        for (const line of lines.slice(0, -1)) assert.ok(line.length <= columns, line);
        assert.equal(lines.at(-1), 'q or Ctrl-C ends it');
      }
    }
    const tall = screenLines(screen({ rows: 24 }));
    assert.equal(tall.length, 24);
  });

  test('shows what is wrong in red where there are colours, and no control character of a message', () => {
    const down = { state: 'down', broker: '', protocol: '', reason: 'told so', session: undefined };
    const lines = screenLines(screen({ hasColour: true, sample: { status: status(1n, 1n, { link: down }), at: 1 } }));
    assert.ok(lines.some((line) => line.startsWith('\u001b[31mbroker    down: told so')));
    assert.ok(lines.some((line) => line.startsWith('\u001b[31mbad-worker')));
    assert.ok(lines.some((line) => line.includes('m\\u001b[2J')));
    assert.ok(!screenLines(screen()).some((line) => line.includes('\u001b')));
  });

  test('an agent that says little of itself is shown all the same', () => {
    const bare = status(1n, 1n, { link: undefined, queues: undefined, workers: [] });
    const lines = screenLines(screen({ sample: { status: bare, at: 1 }, before: { status: bare, at: 0 } }));
    assert.ok(lines.includes('messages  0 on their way, 0 dead'), lines.join('\n'));
  });
});
