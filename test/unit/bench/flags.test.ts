/** The command line of the benchmark, and which rows it means. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseFlags } from '../../../bench/flags.js';
import { allRows, chooseRows, limitOf } from '../../../bench/rows.js';

function problemOf(...words: string[]): string {
  const parsed = parseFlags(words);
  assert.equal(parsed.kind, 'wrong');
  return parsed.text;
}

test('without flags all rows are measured in three rounds, and kept', () => {
  const parsed = parseFlags([]);
  assert.equal(parsed.kind, 'flags');
  const { rounds, seconds, save, only } = parsed.flags;
  assert.deepEqual({ rounds, seconds, save, only }, { rounds: 3, seconds: 3, save: true, only: [] });
});

test('a quick run, a choice and a profile keep nothing unless they are told to', () => {
  for (const words of [['--quick'], ['--only', 'unary'], ['--profile', '/tmp/x']]) {
    const parsed = parseFlags(words);
    assert.ok(parsed.kind === 'flags' && !parsed.flags.save, words.join(' '));
  }
  const parsed = parseFlags(['--only', 'unary,stream', '--only', 'idle', '--save']);
  assert.equal(parsed.kind, 'flags');
  assert.deepEqual([parsed.flags.save, parsed.flags.only], [true, ['unary', 'stream', 'idle']]);
});

test('a wrong flag or value is named', () => {
  assert.match(problemOf('--quik'), /--quik/);
  assert.match(problemOf('--rounds', '1.5'), /--rounds must be a whole number, not "1.5"/);
  assert.match(problemOf('--seconds', 'long'), /--seconds must be a number above 0, not "long"/);
  assert.match(problemOf('--messages', '0'), /--messages must be/);
  assert.match(problemOf('--save', '--no-save'), /exclude each other/);
  assert.match(problemOf('--save', '--profile', '/tmp/x'), /exclude each other/);
  assert.match(problemOf('surplus'), /surplus/);
});

test('rows have names of their own, and each load of an agent has its limits', () => {
  const rows = allRows(false);
  const names = new Set(rows.map(({ name }) => name));
  assert.equal(names.size, rows.length);
  for (const row of rows) {
    if (row.kind !== 'throughput') continue;
    assert.ok(names.has(limitOf(row, 'limit-echo')), row.name);
    assert.ok(names.has(limitOf(row, 'limit-grpc')), row.name);
  }
});

test('a row is chosen by its name or the beginning of it', () => {
  const rows = allRows(false);
  const chosen = (...names: string[]): string[] => {
    const choice = chooseRows(rows, names);
    assert.equal(choice.kind, 'rows');
    return choice.rows.map(({ name }) => name);
  };
  assert.equal(chosen().length, rows.length);
  assert.deepEqual(chosen('unary/100B/16', 'idle'), ['unary/100B/16', 'idle']);
  assert.deepEqual(
    chosen('unary/1MiB'),
    [1, 16, 128, 1000].map((count) => `unary/1MiB/${count}`),
  );
  assert.ok(chosen('unary').every((name) => name.startsWith('unary/')));
  assert.deepEqual(chooseRows(rows, ['idle', 'unar']), { kind: 'unknown', name: 'unar' });
});
