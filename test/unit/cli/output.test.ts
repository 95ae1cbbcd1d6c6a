/** What `ygg` prints, for a person and for a program. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { instant, Output, size, span } from '../../../src/cli/output.js';
import { printable } from '../../../src/message/index.js';

function sink(isTTY: boolean): { readonly isTTY: boolean; text: string; write(text: string | Uint8Array): boolean } {
  return {
    isTTY,
    text: '',
    write(text) {
      this.text += String(text);
      return true;
    },
  };
}

describe('Output', () => {
  const rows = [
    ['echo', 1n],
    ['a-long-one', 22],
  ];

  test('a table has a head and columns on a terminal', () => {
    const terminal = sink(true);
    new Output(terminal).table(['NAME', 'N'], rows);
    assert.equal(terminal.text, 'NAME        N\necho        1\na-long-one  22\n');
  });

  test('in a pipe there are tabs and no head', () => {
    const pipe = sink(false);
    new Output(pipe).table(['NAME', 'N'], rows);
    new Output(pipe).fields([['name', 'value']]);
    assert.equal(pipe.text, 'echo\t1\na-long-one\t22\nname\tvalue\n');
  });

  test('fields stand under each other on a terminal', () => {
    const terminal = sink(true);
    new Output(terminal).fields([
      ['a', 1],
      ['long', 2],
    ]);
    assert.equal(terminal.text, 'a     1\nlong  2\n');
  });

  test('a list of JSON is one document, however it comes', async () => {
    for (const values of [[], [{ key: 1n }], [1, 'two', { three: 3n }]]) {
      const out = sink(false);
      await new Output(out).jsonList(
        (async function* () {
          yield* await Promise.resolve(values);
        })(),
      );
      assert.deepEqual(
        JSON.parse(out.text),
        JSON.parse(JSON.stringify(values, (_, each: unknown) => (typeof each === 'bigint' ? Number(each) : each))),
      );
    }
  });

  test('nothing that others wrote can steer a terminal', () => {
    const terminal = sink(true);
    new Output(terminal).table(['NAME'], [['\u001b[2Jx\n\u009b31m\u202e']]);
    assert.equal(terminal.text, 'NAME\n\\u001b[2Jx\\u000a\\u009b31m\\u202e\n');
  });
});

test('spans, sizes and times', () => {
  assert.deepEqual([0, 999, 61_000, 3_600_000, 90_061_000].map(span), ['0 s', '1 s', '1 min 1 s', '1 h', '1 d 1 h']);
  assert.deepEqual([0, 1023, 1536, 10 * 2 ** 20, 5n * 2n ** 40n].map(size), [
    '0 B',
    '1023 B',
    '1.5 KiB',
    '10 MiB',
    '5120 GiB',
  ]);
  assert.equal(printable('plain ünï'), 'plain ünï');
  assert.deepEqual([instant(0n), instant(1_700_000_000_123n)], ['', '2023-11-14T22:13:20.123Z']);
});
