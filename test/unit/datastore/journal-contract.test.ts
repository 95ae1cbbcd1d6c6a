// One contract suite for every journal: what the queues rely on holds for LMDB and for memory alike.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { LmdbJournal, MemoryJournal, type Journal } from '../../../src/datastore/index.js';
import { END } from '../../../src/datastore/journal.js';
import { AgentError } from '../../../src/errors.js';
import { silentLog } from '../../../src/log/log.js';
import { tempDir } from '../../support/temp.js';

const bytes = (text: string): Buffer => Buffer.from(text);
const keysOf = (entries: Iterable<readonly [string, Buffer]>): string[] => Array.from(entries, ([key]) => key);

const kinds: readonly { name: string; make: (dir: string) => Journal; survives: boolean }[] = [
  { name: 'memory', make: () => new MemoryJournal(), survives: false },
  { name: 'LMDB', make: (dir) => new LmdbJournal(join(dir, 'journal')), survives: true },
  {
    name: 'LMDB behind a log that is full at once',
    make: (dir) => new LmdbJournal(join(dir, 'journal'), silentLog, {}, { entries: 1, bytes: 1, file: 1, after: 1 }),
    survives: true,
  },
];

for (const { name, make, survives } of kinds) {
  describe(`the journal in ${name}`, () => {
    const opened = async (fn: (journal: Journal, dir: string) => Promise<void>): Promise<void> => {
      await using dir = await tempDir();
      const journal = make(dir.path);
      await journal.open();
      try {
        await fn(journal, dir.path);
      } finally {
        await journal.close();
      }
    };

    it('gives back what was committed, and nothing for a key that is not there', () =>
      opened(async (journal) => {
        await journal.commit([{ table: 'records', key: 'a', value: bytes('1') }]);
        assert.deepEqual(journal.get('records', 'a'), bytes('1'));
        assert.equal(journal.get('records', 'b'), undefined);
        assert.equal(journal.get('ids', 'a'), undefined);
      }));

    it('shows a commit only once its promise has resolved, and then all of it', () =>
      opened(async (journal) => {
        const done = journal.commit([
          { table: 'records', key: 'a', value: bytes('1') },
          { table: 'ids', key: 'b', value: bytes('2') },
        ]);
        assert.equal(journal.get('records', 'a'), undefined);
        await done;
        assert.deepEqual(journal.get('ids', 'b'), bytes('2'));
      }));

    it('resolves commits in the order of the calls, however many one turn makes', () =>
      opened(async (journal) => {
        const order: number[] = [];
        const tables = ['records', 'ids', 'alarms', 'facts'] as const;
        await Promise.all(
          Array.from({ length: 600 }, async (_, i) => {
            await journal.commit(tables.map((table) => ({ table, key: `${i}`, value: bytes(String(i)) })));
            order.push(i);
          }),
        );
        assert.deepEqual(
          order,
          [...order].sort((a, b) => a - b),
        );
        assert.deepEqual(journal.get('facts', '599'), bytes('599'));
      }));

    it('removes a key whose value is not given', () =>
      opened(async (journal) => {
        await journal.commit([{ table: 'ids', key: 'a', value: bytes('1') }]);
        await journal.commit([
          { table: 'ids', key: 'a', value: undefined },
          { table: 'ids', key: 'never', value: undefined },
        ]);
        assert.equal(journal.get('ids', 'a'), undefined);
        assert.equal(journal.count('ids'), 0);
      }));

    it('ranges in the order of bytes, without its bounds, up to a limit', () =>
      opened(async (journal) => {
        const keys = ['i/a/1/01', 'i/a/1/02', 'i/a/1/10', 'i/a-b/1/01', 'i/b/1/01', 'o/x/01'];
        await journal.commit(keys.map((key) => ({ table: 'records', key, value: bytes(key) })));
        const range = (after: string, before: string, limit?: number): string[] =>
          keysOf(journal.range('records', { after, before, ...(limit === undefined ? {} : { limit }) }));
        assert.deepEqual(range('i/a/1/', 'i/a/10'), ['i/a/1/01', 'i/a/1/02', 'i/a/1/10']);
        assert.deepEqual(range('i/a/1/01', 'i/a/1/10'), ['i/a/1/02']);
        assert.deepEqual(range('', END, 2), [...keys].sort().slice(0, 2));
        assert.deepEqual(range('', END), [...keys].sort());
        assert.deepEqual(range('p', END), []);
        assert.equal(journal.count('records'), keys.length);
      }));

    it('hands out bytes of the reader’s own', () =>
      opened(async (journal) => {
        const given = bytes('abc');
        await journal.commit([{ table: 'dead', key: 'k', value: given }]);
        journal.get('dead', 'k')?.fill(0);
        for (const [, value] of journal.range('dead', { after: '', before: END })) value.fill(0);
        assert.deepEqual(journal.get('dead', 'k'), bytes('abc'));
      }));

    it('takes an empty value and a large one', () =>
      opened(async (journal) => {
        const large = Buffer.alloc(200_000, 7);
        await journal.commit([
          { table: 'records', key: 'empty', value: Buffer.alloc(0) },
          { table: 'records', key: 'large', value: large },
        ]);
        assert.deepEqual(journal.get('records', 'empty'), Buffer.alloc(0));
        assert.deepEqual(journal.get('records', 'large'), large);
      }));

    it('refuses work once it is closed, and closes twice', () =>
      opened(async (journal) => {
        await journal.close();
        await journal.close();
        assert.throws(() => journal.get('ids', 'a'), AgentError);
        await assert.rejects(journal.commit([]), AgentError);
      }));

    it('knows of what has ended the latest, from when its commit is through', () =>
      opened(async (journal) => {
        const done = journal.commit([
          { table: 'past', key: 'a', value: bytes('1') },
          { table: 'past', key: 'b', value: 'text' },
        ]);
        assert.equal(journal.get('past', 'a'), undefined);
        await done;
        await journal.commit([{ table: 'past', key: 'a', value: bytes('2') }]);
        journal.get('past', 'a')?.fill(0);
        assert.deepEqual(journal.get('past', 'a'), bytes('2'));
        assert.deepEqual(journal.get('past', 'b'), bytes('text'));
        assert.equal(journal.get('past', 'c'), undefined);
        assert.equal(journal.count('past'), 3);
      }));

    it('refuses to tell what has ended once it is closed', () =>
      opened(async (journal) => {
        await journal.commit([{ table: 'past', key: 'a', value: bytes('1') }]);
        await journal.close();
        assert.throws(() => journal.get('past', 'a'), AgentError);
        assert.throws(() => journal.count('past'), AgentError);
        assert.throws(() => [...journal.pages()], AgentError);
      }));

    it('forgets what has ended a page at a time, once it is told to', () =>
      opened(async (journal, dir) => {
        await journal.commit([
          { table: 'past', key: 'a', value: bytes('1') },
          { table: 'past', key: 'b', value: bytes('2') },
        ]);
        let again = journal;
        const reopen = async (): Promise<void> => {
          if (!survives) return;
          await again.close();
          again = make(dir);
          await again.open();
        };
        await reopen();
        const [page] = again.pages();
        assert.deepEqual([page?.count, page?.newest], [2, bytes('2')]);
        await again.commit([
          { table: 'past', key: page?.name ?? '', value: undefined },
          { table: 'past', key: 'c', value: bytes('3') },
        ]);
        for (const turn of ['at once', 'after another start']) {
          const known = ['a', 'b', 'c'].map((key) => again.get('past', key)?.toString());
          assert.deepEqual(known, [undefined, undefined, '3'], turn);
          assert.equal(again.count('past'), 1, turn);
          await reopen();
        }
        await again.close();
      }));

    if (survives) {
      it('keeps what was committed over a close', () =>
        opened(async (journal, dir) => {
          await journal.commit([{ table: 'records', key: 'a', value: bytes('1') }]);
          await journal.close();
          const again = make(dir);
          await again.open();
          assert.deepEqual(again.get('records', 'a'), bytes('1'));
          await again.close();
        }));

      it('fails what is asked for beside a commit that fails, and goes on behind that', () =>
        opened(async (journal) => {
          // No key may be as long.
          const tooLong = [{ table: 'records', key: 'a'.repeat(5000), value: bytes('1') }] as const;
          const failure = { code: 'journal.write_failed' };
          await assert.rejects(journal.commit(tooLong), failure);
          const first = journal.commit([{ table: 'records', key: 'a', value: bytes('1') }]);
          await Promise.resolve();
          // By now that one is being written: what comes gathers for the next write.
          const failed = assert.rejects(journal.commit(tooLong), failure);
          await assert.rejects(journal.commit([{ table: 'records', key: 'b', value: bytes('2') }]), failure);
          await failed;
          await first;
          await journal.commit([{ table: 'records', key: 'c', value: bytes('3') }]);
          assert.deepEqual(keysOf(journal.range('records', { after: '', before: END })), ['a', 'c']);
        }));
    }
  });
}
