/** What is known of ids that have ended, held against a Map: over checkpoints, those that fail, crashes and damage. */
import assert from 'node:assert/strict';
import { suite, test, type TestContext } from 'node:test';

import type { Change } from '../../../src/datastore/journal.js';
import { PastIndex, Prints } from '../../../src/datastore/past-index.js';
import {
  entriesOf,
  entryLength,
  forEachEntry,
  MOST_BYTES,
  MOST_ENTRIES,
  PageBuilder,
  sealed,
  startOf,
  valueAt,
} from '../../../src/datastore/past-page.js';
import { PastPages, type Storing } from '../../../src/datastore/past-pages.js';
import { kept } from '../../support/memory.js';
import { between, seeded, testSeed } from '../../support/seeded.js';

function random(t: TestContext): () => number {
  const seed = testSeed();
  t.diagnostic(`seed ${seed} (YGG_TEST_SEED=${seed} repeats it)`);
  return seeded(seed);
}

/** Where pages are stored: in order of their names, as in the tables. */
class Store {
  readonly pages = new Map<string, Buffer>();
  readonly damaged: string[] = [];

  open(): PastPages {
    const past = new PastPages({
      names: () => [...this.pages.keys()].sort(),
      read: (name) => this.pages.get(name),
      damaged: (name) => this.damaged.push(name),
    });
    past.load();
    return past;
  }

  write({ changes }: Pick<Storing, 'changes'>): void {
    this.#apply(changes);
  }

  /** As the journal does: what they stand for goes later, and readers come in between. */
  done(storing: Storing): void {
    this.#apply(storing.done());
  }

  #apply(changes: readonly Change[]): void {
    for (const { table, key, value } of changes) {
      assert.equal(table, 'past');
      if (value === undefined) this.pages.delete(key);
      else this.pages.set(key, Buffer.from(value as Buffer));
    }
  }

  store(past: PastPages, number: number): void {
    past.take(number);
    const storing = past.storing();
    this.write(storing);
    this.done(storing);
  }
}

const names = (past: PastPages): string[] => Array.from(past.stored(), ({ name }) => name);

suite('pages of what has ended', () => {
  test('hold what was set last, whatever is stored, fails, is forgotten or comes again after a crash', (t) => {
    const next = random(t);
    for (let round = 0; round < 20; round++) {
      const store = new Store();
      let past = store.open();
      /** What must be known, and what was set since the last checkpoint that was through. */
      const known = new Map<string, string>();
      let log: (readonly [string, string])[] = [];
      let logged = 0;
      let commit = 0;
      const most = between(next, 1, 3) === 1 ? 1_500 : 40;
      for (let step = 0; step < 40; step++) {
        for (let n = between(next, 0, most); n > 0; n--) {
          const key = `i/echo/${between(next, 0, 2_000)}`;
          const value = `${commit}${'x'.repeat(between(next, 0, 60))}`;
          past.add(key, next() < 0.5 ? value : Buffer.from(value));
          known.set(key, value);
          log.push([key, value]);
        }
        commit += 1;
        const what = next();
        if (what < 0.5) {
          past.take(commit);
          const storing = past.storing();
          // It may fail, and is tried again later; or be written, and the crash comes before anybody knows.
          const end = next();
          if (end > 0.2) store.write(storing);
          if (end > 0.4) {
            // Meanwhile more comes.
            past.add('i/echo/meanwhile', `${commit}`);
            known.set('i/echo/meanwhile', `${commit}`);
            for (const [key, value] of known) if (next() < 0.05) assert.equal(past.get(key)?.toString(), value, key);
            store.done(storing);
            logged = log.length;
            log.push(['i/echo/meanwhile', `${commit}`]);
          } else if (end <= 0.2) {
            const again = past.storing();
            store.write(again);
            store.done(again);
            logged = log.length;
          } else {
            past = store.open();
            for (const [key, value] of log.slice(logged)) past.add(key, value);
          }
          log = log.slice(logged);
          logged = 0;
        } else if (what < 0.6) {
          past = store.open();
          for (const [key, value] of log) past.add(key, value);
        } else if (what < 0.7) {
          const [oldest] = past.stored();
          if (oldest === undefined) continue;
          const page = entriesOf(store.pages.get(oldest.name)!)!;
          let last = '';
          const held: string[] = [];
          forEachEntry(page, (keyAt, valueStart, end) => {
            held.push(page.toString('latin1', keyAt, valueStart));
            last = page.toString('latin1', valueStart, end);
          });
          assert.equal(oldest.count, held.length);
          assert.equal(String(oldest.newest), last);
          past.drop(oldest.name);
          past.drop(oldest.name);
          store.pages.delete(oldest.name);
          // What came in a later page, or has not been stored, is still known: the Map is asked what that is.
          for (const key of held) {
            const value = past.get(key);
            if (value === undefined) known.delete(key);
            else assert.equal(value.toString(), known.get(key));
          }
        }
        const look = step % 10 === 9 ? 1 : 0.05;
        for (const [key, value] of known) if (next() < look) assert.equal(past.get(key)?.toString(), value, key);
        assert.equal(past.get('i/echo/never'), undefined);
      }
      assert.deepEqual(names(past), [...store.pages.keys()].sort());
    }
  });

  test('are forgotten whole, and what is known by nothing else with them', () => {
    const store = new Store();
    const past = store.open();
    for (let n = 0; n < 2_500; n++) past.add(`k${n}`, `${n}`);
    store.store(past, 1);
    const stored = [...past.stored()];
    assert.deepEqual(
      stored.map(({ count, newest }) => [count, String(newest)]),
      [
        [1024, '1023'],
        [1024, '2047'],
        [452, '2499'],
      ],
    );
    for (const { name } of stored.slice(0, 2)) past.drop(name);
    assert.deepEqual([past.count, past.get('k2047'), String(past.get('k2048'))], [452, undefined, '2048']);
  });

  test('are few and large, however few ids come at a time, and each is written no more than some ten times', () => {
    const store = new Store();
    const past = store.open();
    let written = 0;
    const count = 3_000;
    for (let n = 0; n < count; n++) {
      past.add(`k${n}`, 'x');
      past.take(n + 1);
      const storing = past.storing();
      for (const { value } of storing.changes) written += value === undefined ? 0 : value.length;
      store.write(storing);
      store.done(storing);
    }
    assert.ok(store.pages.size < 20, `${store.pages.size} pages`);
    assert.ok(written < 12 * count * (entryLength('k1000', 'x') + 5), `${written} bytes`);
    for (let n = 0; n < count; n++) assert.equal(past.get(`k${n}`)?.toString(), 'x');
    assert.equal(past.count, count);
  });

  test('that are damaged are told of, hold nothing, and are the first to go', () => {
    const store = new Store();
    const before = store.open();
    before.add('a', '1');
    store.store(before, 1);
    const [name = ''] = store.pages.keys();
    const page = store.pages.get(name)!;
    page[page.length - 1]! ^= 1;
    const past = store.open();
    assert.equal(past.count, 1);
    assert.equal(past.get('a'), undefined);
    assert.deepEqual(store.damaged, [name]);
    past.add('b', '2');
    store.store(past, 2);
    assert.deepEqual(
      Array.from(past.stored(), ({ newest }) => String(newest)),
      ['', '2'],
    );
    past.drop(name);
    assert.deepEqual([past.count, String(past.get('b'))], [1, '2']);
  });

  test('are asked for again where they could not be read at all', () => {
    const store = new Store();
    const before = store.open();
    for (const key of ['a', 'b']) before.add(key, '1');
    store.store(before, 1);
    let isBroken = true;
    const past = new PastPages({
      names: () => store.pages.keys(),
      read: (name) => {
        if (isBroken) throw new Error('the disk cannot be read');
        return store.pages.get(name);
      },
      damaged: (name) => assert.equal(name, ''),
    });
    past.load();
    assert.throws(() => past.get('a'));
    isBroken = false;
    assert.equal(past.get('a')?.toString(), '1');
  });

  test('of another number of entries than their names say hide nothing that comes later', () => {
    for (const [count, number] of [
      [1, 5],
      [5, 1],
    ] as const) {
      const store = new Store();
      const before = store.open();
      for (let n = 0; n < number; n++) before.add(`a${n}`, '1');
      store.store(before, 1);
      const [[name = '', page] = []] = store.pages;
      store.pages.clear();
      store.pages.set(name.replace(/[0-9]+$/, `${count}`), page!);
      const past = store.open();
      for (let n = 0; n < number; n++) assert.equal(past.get(`a${n}`)?.toString(), '1');
      for (let n = 0; n < 5; n++) past.add(`b${n}`, '2');
      store.store(past, 2);
      for (let n = 0; n < 5; n++) assert.equal(past.get(`b${n}`)?.toString(), '2', `${count} for ${number}`);
    }
  });

  test('that rot while they are known hold nothing from then on', () => {
    const store = new Store();
    const past = store.open();
    past.add('a', '1');
    store.store(past, 1);
    assert.equal(past.get('a')?.toString(), '1');
    past.add('b', '2');
    for (let n = 0; n < 2 * MOST_ENTRIES; n++) past.add(`c${n}`, '3');
    store.store(past, 2);
    // Another page is read, so that this one is asked for again.
    assert.equal(past.get('c1024')?.toString(), '3');
    const [name = ''] = names(past);
    const page = store.pages.get(name)!;
    page[page.length - 1]! ^= 1;
    assert.equal(past.get('a'), undefined);
    assert.deepEqual(store.damaged, [name]);
    past.add('a', '4');
    assert.equal(past.get('a')?.toString(), '4');
  });

  test('that rot while they are known are joined with no other', () => {
    const store = new Store();
    const before = store.open();
    for (let n = 0; n < MOST_ENTRIES; n++) before.add(`c${n}`, '3');
    store.store(before, 1);
    before.add('a', '1');
    store.store(before, 2);
    const past = store.open();
    assert.equal(past.get('c0')?.toString(), '3');
    const page = store.pages.get(names(past)[1] ?? '')!;
    page[page.length - 1]! ^= 1;
    assert.equal(past.get('c0')?.toString(), '3');
    past.add('b', '2');
    store.store(past, 3);
    assert.equal(past.get('b')?.toString(), '2');
    assert.equal(store.pages.size, 3);
  });

  test('under a name that was damaged are known, and count as none', () => {
    const store = new Store();
    const before = store.open();
    before.add('a', '1');
    store.store(before, 1);
    const [[name = '', page] = []] = store.pages;
    store.pages.clear();
    store.pages.set(`${name.slice(0, -1)}q`, page!);
    const past = store.open();
    past.add('b', '2');
    assert.equal(past.count, 1);
    assert.equal(past.get('a')?.toString(), '1');
    past.load();
    assert.deepEqual([past.count, past.added, past.get('b')], [0, { entries: 0, bytes: 0 }, undefined]);
  });

  test('are no larger because they are joined', () => {
    const store = new Store();
    const past = store.open();
    for (let n = 0; n < 20; n++) {
      past.add(`k${n}`, Buffer.alloc(MOST_BYTES / 3));
      store.store(past, n + 1);
      assert.equal(past.get(`k${n}`)?.length, Math.floor(MOST_BYTES / 3));
    }
    for (const { length } of store.pages.values()) assert.ok(length < MOST_BYTES + 100, `${length} bytes`);
    for (let n = 0; n < 1_300; n++) {
      past.add(`few${n}`, '');
      if (n === 599) store.store(past, 100);
    }
    store.store(past, 101);
    for (const { count } of past.stored()) assert.ok(count <= MOST_ENTRIES, `${count} entries`);
  });

  test('stand in their order, also where others are full before they are stored', () => {
    const store = new Store();
    const past = store.open();
    past.add('a', '0');
    past.take(1);
    const storing = past.storing();
    store.write(storing);
    for (let n = 0; n <= MOST_ENTRIES; n++) past.add('a', `${n}`);
    store.done(storing);
    assert.equal(names(past).length, 1);
    store.store(past, 2);
    assert.deepEqual(
      Array.from(past.stored(), ({ newest }) => String(newest)),
      ['0', `${MOST_ENTRIES - 1}`, `${MOST_ENTRIES}`],
    );
    assert.equal(past.get('a')?.toString(), `${MOST_ENTRIES}`);
  });

  test('leave nothing in memory once they are forgotten or joined, and what was taken is added no more', async () => {
    const store = new Store();
    const past = store.open();
    const before = await kept();
    for (let round = 0; round < 300; round++) {
      for (let n = 0; n < 2_500; n++) past.add(`i/echo/${round}-${n}`, 'x');
      assert.equal(past.added.entries, 2_500);
      assert.equal(past.get('i/echo/never'), undefined);
      store.store(past, 3 * round);
      // Of these the first are joined with the second.
      for (let n = 0; n < 900; n++) {
        past.add(`i/echo/${round}-few-${n}`, 'x');
        if (n === 399) store.store(past, 3 * round + 1);
      }
      store.store(past, 3 * round + 2);
      assert.equal(names(past).length, 4);
      assert.deepEqual(past.added, { entries: 0, bytes: 0 });
      for (const name of names(past)) {
        past.drop(name);
        store.pages.delete(name);
      }
    }
    assert.equal(past.count, 0);
    // All of them are more than 8 MiB, those that were joined 2.
    const grown = (await kept()) - before;
    assert.equal(past.get('i/echo/0-0'), undefined);
    assert.ok(grown < 2 ** 20, `${grown} bytes`);
  });

  test('have names that tell them apart, also when a checkpoint of the same number was cut off before', () => {
    const store = new Store();
    let past = store.open();
    past.add('a', '1');
    past.take(7);
    store.write(past.storing());
    past = store.open();
    past.add('a', '1');
    for (let n = 0; n < MOST_ENTRIES; n++) past.add(`b${n}`, '2');
    store.store(past, 7);
    assert.equal(new Set(names(past)).size, 3);
    assert.deepEqual(names(past), [...store.pages.keys()].sort());
  });

  test('stand behind those that were there, also where commits are counted from 1 again', () => {
    const store = new Store();
    let past = store.open();
    past.add('a', 'dead');
    store.store(past, 5_000);
    for (let number = 1; number < 4; number++) {
      past = store.open();
      past.add('a', `${number}`);
      store.store(past, number);
      past = store.open();
      assert.equal(past.get('a')?.toString(), `${number}`);
    }
    past.drop(names(past)[0] ?? '');
    assert.equal(past.get('a')?.toString(), '3');
  });

  test('are never called what others were that were forgotten while these could not be stored', () => {
    const store = new Store();
    const cutOff = store.open();
    for (let n = 0; n < 2 * MOST_ENTRIES; n++) cutOff.add(`a${n}`, '1');
    cutOff.take(7);
    store.write(cutOff.storing());
    const left = [...store.pages.keys()];
    const past = store.open();
    for (let n = 0; n < 2 * MOST_ENTRIES; n++) past.add(`a${n}`, '1');
    past.take(7);
    past.storing();
    for (const name of left) past.drop(name);
    store.write(past.storing());
    assert.equal(store.pages.size, 4);
  });

  test('hold entries of any size', () => {
    const store = new Store();
    const past = store.open();
    const sizes = [0, 1, MOST_BYTES - 100, MOST_BYTES, 3 * MOST_BYTES, 5];
    for (const [n, size] of sizes.entries()) past.add(`k${n}`, Buffer.alloc(size, n));
    const check = (pages: PastPages): void => {
      for (const [n, size] of sizes.entries()) assert.deepEqual(pages.get(`k${n}`), Buffer.alloc(size, n), `${size}`);
    };
    check(past);
    store.store(past, 1);
    check(past);
    check(store.open());
  });
});

suite('a page', () => {
  test('that was flipped, cut short or is something else is none', (t) => {
    const next = random(t);
    const builder = new PageBuilder(0);
    for (let n = 0; n < 10; n++) builder.add(`key${n}`, 'value', n);
    const page = sealed([builder.entries]);
    const entries = entriesOf(page)!;
    assert.equal(String(valueAt(entries, startOf(entries, 7), 'key7')), 'value');
    for (let round = 0; round < 200; round++) {
      const other = Buffer.from(page.subarray(0, next() < 0.5 ? page.length : between(next, 0, page.length - 1)));
      if (other.length === page.length) other[between(next, 0, page.length - 1)]! ^= 1 << between(next, 0, 7);
      assert.equal(entriesOf(other), undefined);
    }
  });
});

suite('the index of what has ended', () => {
  test('gives the pages that it was told of, newest first, also of keys that are alike', (t) => {
    const next = random(t);
    const index = new PastIndex();
    const model = new Map<number, Set<number>>();
    // Few prints, next to each other: long runs of slots, which removals have to keep whole.
    const prints = Array.from({ length: 600 }, (_, n) => (n < 300 ? n + 1000 : Math.floor(next() * 2 ** 32)) || 1);
    for (let step = 0; step < 20_000; step++) {
      const print = prints[between(next, 0, prints.length - 1)]!;
      const page = between(next, 1, 8);
      const pages = model.get(print) ?? new Set();
      if (next() < 0.5) {
        index.add(print, page);
        pages.add(page);
      } else {
        index.remove(print, page);
        pages.delete(page);
      }
      model.set(print, pages);
      if (step % 500 !== 0) continue;
      for (const each of prints) {
        const found: number[] = [];
        for (let at = index.newest(each, Infinity); at !== 0; at = index.newest(each, at)) found.push(at);
        assert.deepEqual(
          found,
          [...(model.get(each) ?? [])].sort((a, b) => b - a),
        );
      }
    }
  });

  test('does not grow with what it is told again and again', async () => {
    const index = new PastIndex();
    const before = await kept();
    for (let n = 0; n < 400_000; n++) index.add(7, 1);
    const grown = (await kept()) - before;
    assert.ok(grown < 2 ** 20, `${grown} bytes`);
    assert.equal(index.newest(7, Infinity), 1);
  });

  test('knows keys by all of their letters, and each process by other prints', () => {
    const secret = Buffer.from('0123456789abcdef', 'hex');
    const prints = new Prints(secret);
    const keys = Array.from({ length: 10_000 }, (_, n) => `o/worker/${n}/the-same-sum-of-what-it-always-answers`);
    assert.ok(new Set(keys.map((key) => prints.of(key))).size > 9_990);
    for (const key of keys) assert.equal(prints.ofBytes(Buffer.from(` ${key} `), 1, key.length + 1), prints.of(key));
    assert.notEqual(prints.of('a'), new Prints(Buffer.from('1123456789abcdef', 'hex')).of('a'));
    assert.equal(prints.of('a'), new Prints(Buffer.from(secret)).of('a'));
  });
});
