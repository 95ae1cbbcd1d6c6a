/** A ring keeps the newest, and tells a reader what it missed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Ring, type Excerpt } from '../../../src/signal/index.js';

const ofWords = (entries: number, weight = Infinity): Ring<string> =>
  new Ring({ entries, weight }, (word) => word.length);

async function collected<T>(excerpts: AsyncIterable<Excerpt<T>>): Promise<{ entries: T[]; missed: number }> {
  const all: T[] = [];
  let missed = 0;
  for await (const excerpt of excerpts) {
    all.push(...excerpt.entries);
    missed += excerpt.missed;
  }
  return { entries: all, missed };
}

test('the newest entries are kept, by number and by weight; the newest one in any case', () => {
  const few = ofWords(2);
  for (const word of ['a', 'b', 'c']) few.push(word);
  assert.deepEqual(few.read(0, 10), { entries: ['b', 'c'], missed: 1, next: 3 });
  const light = ofWords(10, 4);
  for (const word of ['aa', 'bb', 'c']) light.push(word);
  assert.deepEqual(light.read(0, 10), { entries: ['bb', 'c'], missed: 1, next: 3 });
  light.push('much too long');
  assert.deepEqual(light.read(light.last(5), 10), { entries: ['much too long'], missed: 0, next: 4 });
});

test('whatever is pushed: what is kept is the end of it, within the limits', () => {
  fc.assert(
    fc.property(
      fc.array(fc.string({ maxLength: 9 })),
      fc.integer({ min: 1, max: 9 }),
      fc.nat(40),
      (words, n, weight) => {
        const ring = ofWords(n, weight);
        for (const word of words) ring.push(word);
        const { entries, missed, next } = ring.read(0, Infinity);
        assert.deepEqual(entries, entries.length === 0 ? [] : words.slice(-entries.length));
        assert.deepEqual([missed + entries.length, next, ring.end], [words.length, words.length, words.length]);
        assert.ok(entries.length <= n && (entries.length <= 1 || entries.join('').length <= weight));
        assert.deepEqual(ring.read(ring.last(2), 9).entries, entries.slice(-2));
      },
    ),
  );
});

test('one who does not follow gets what is there, and comes to an end', async () => {
  const ring = ofWords(1000);
  for (let n = 0; n < 600; n++) ring.push(String(n));
  const scope = new AbortController();
  const excerpts = ring.excerpts(ring.last(550), false, scope.signal);
  const first = await excerpts.next();
  // What comes meanwhile is not waited for, however much of it.
  ring.push('later');
  const rest = await collected(excerpts);
  assert.ok(!first.done);
  assert.equal(first.value.entries[0], '50');
  assert.equal(first.value.entries.length + rest.entries.length, 550);
});

test('one who follows gets what comes, is told what it missed, and ends with its scope or with the ring', async () => {
  const ring = ofWords(3);
  const scope = new AbortController();
  const excerpts = ring.excerpts(0, true, scope.signal);
  const waiting = excerpts.next();
  ring.push('a');
  assert.deepEqual((await waiting).value, { entries: ['a'], missed: 0, next: 1 });
  for (const word of ['b', 'c', 'd', 'e', 'f']) ring.push(word);
  assert.deepEqual((await excerpts.next()).value, { entries: ['d', 'e', 'f'], missed: 2, next: 6 });
  const last = excerpts.next();
  scope.abort();
  assert.equal((await last).done, true);

  const closed = collected(ring.excerpts(ring.end, true, new AbortController().signal));
  ring.push('g');
  ring.close();
  assert.deepEqual(await closed, { entries: ['g'], missed: 0 });
});
