import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Change } from '../../../src/datastore/index.js';
import { Transactions, type Settler, type Transaction } from '../../../src/datastore/transactions.js';
import { deferred, type Deferred } from '../../../src/datastore/promises.js';

const put = (key: string, value = key): Change => ({ table: 'records', key, value: Buffer.from(value) });
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const keysOf = ({ changes }: Transaction): readonly string[] => changes.map(({ key }) => key);

/** Transactions whose writes end when the test says so; `told` is what happened, in order. */
class Bench {
  readonly told: string[] = [];
  readonly writes: (Deferred & { readonly keys: readonly string[] })[] = [];
  readonly transactions = new Transactions({
    write: (transaction) => {
      const write = { ...deferred(), keys: keysOf(transaction) };
      this.writes.push(write);
      return write.done;
    },
    done: (transaction) => this.told.push(`through ${keysOf(transaction).join()}`),
    failed: (transaction) => this.told.push(`failed ${keysOf(transaction).join()} of ${transaction.growth}`),
    misled: (error) => this.told.push(`misled ${String(error)}`),
  });

  settler(name: string): Settler {
    return {
      done: () => this.told.push(`${name} done`),
      failed: (error) => this.told.push(`${name} ${String(error)}`),
    };
  }

  add(name: string, growth = 0): void {
    this.transactions.add([put(name)], growth, this.settler(name));
  }

  addSoon(name: string, growth = 0): void {
    this.transactions.addSoon([put(name)], growth, this.settler(name));
  }

  find(key: string): string | undefined {
    return this.transactions.find('records', key)?.value?.toString();
  }
}

describe('what is on its way to the journal', () => {
  it('goes together when it came in one turn, and all of it is told in one turn and in order', async () => {
    const bench = new Bench();
    bench.add('a');
    bench.add('b');
    assert.equal(bench.writes.length, 0);
    await turn();
    bench.add('c');
    assert.deepEqual(bench.writes[0]?.keys, ['a', 'b']);
    assert.deepEqual([bench.find('a'), bench.find('c'), bench.find('d')], ['a', 'c', undefined]);
    bench.writes[0].resolve();
    await turn();
    assert.deepEqual(bench.told, ['through a,b', 'a done', 'b done']);
    assert.deepEqual([bench.find('a'), bench.find('c')], [undefined, 'c'], 'the journal shows the first now');
    assert.deepEqual(bench.writes[1]?.keys, ['c']);
    bench.writes[1].resolve();
    await bench.transactions.flush();
    assert.equal(bench.told.at(-1), 'c done');
  });

  it('shows the latest change of a key, also where an earlier one is still being written', async () => {
    const bench = new Bench();
    const { transactions } = bench;
    bench.add('k');
    await turn();
    transactions.add([put('k', 'newer'), put('k', 'newest')], 0, bench.settler('second'));
    assert.equal(bench.find('k'), 'newest');
    transactions.add([{ table: 'records', key: 'k', value: undefined }], 0, bench.settler('third'));
    const gone = transactions.find('records', 'k');
    assert.ok(gone !== undefined && gone.value === undefined, 'a removal that is on its way is seen as one');
    assert.equal(transactions.find('ids', 'k'), undefined);
    for (const at of [0, 1]) {
      bench.writes[at]?.resolve();
      await turn();
    }
    assert.equal(transactions.find('records', 'k'), undefined);
  });

  it('fails together with what gathered behind it, of which nothing is seen any more when the first is told', async () => {
    const bench = new Bench();
    const seen: (string | undefined)[] = [];
    bench.transactions.add([put('a')], 5, {
      done: () => assert.fail('it failed'),
      failed: () => {
        seen.push(bench.find('a'), bench.find('behind'));
        // Asked for anew, it is no part of what failed.
        bench.add('again');
      },
    });
    bench.add('b', 1);
    await turn();
    bench.add('behind', 2);
    bench.writes[0]?.reject(new Error('ENOSPC'));
    await turn();
    assert.deepEqual(seen, [undefined, undefined]);
    const behind = ['failed a,b of 6', 'failed behind of 2', 'b Error: ENOSPC', 'behind Error: ENOSPC'];
    assert.deepEqual(bench.told, behind);
    assert.deepEqual(bench.writes[1]?.keys, ['again']);
    bench.writes[1].resolve();
    await turn();
    assert.deepEqual(bench.told.slice(behind.length), ['through again', 'again done']);
  });

  it('leaves what is not urgent to the next commit, whose fate it shares from then on', async () => {
    const bench = new Bench();
    bench.addSoon('end', -1);
    await turn();
    assert.equal(bench.writes.length, 0);
    bench.add('a');
    await turn();
    assert.deepEqual(bench.writes[0]?.keys, ['end', 'a']);
    bench.addSoon('later');
    bench.writes[0].reject(new Error('EIO'));
    await turn();
    assert.deepEqual(bench.told, ['failed end,a of -1', 'end Error: EIO', 'a Error: EIO'], 'nobody waited behind it');
    const flushed = bench.transactions.flush();
    await turn();
    assert.deepEqual(bench.writes[1]?.keys, ['later']);
    bench.writes[1].resolve();
    await flushed;
    assert.equal(bench.told.at(-1), 'later done');
  });

  it('has one promise for all who want one, which settles when all are told', async () => {
    const bench = new Bench();
    const { transactions } = bench;
    const wait = (name: string): Promise<unknown> =>
      transactions.add([put(name)], 0, bench.settler(name)).durable.then(
        () => bench.told.push(`${name} resolved`),
        (error: unknown) => bench.told.push(`${name} rejected with ${String(error)}`),
      );
    const good = [wait('a'), wait('b')];
    await turn();
    bench.writes[0]?.resolve();
    await Promise.all(good);
    assert.deepEqual(bench.told, ['through a,b', 'a done', 'b done', 'a resolved', 'b resolved']);
    const bad = wait('c');
    await turn();
    const behind = wait('d');
    bench.writes[1]?.reject(new Error('full'));
    await Promise.all([bad, behind]);
    assert.deepEqual(bench.told.slice(-4), [
      'c Error: full',
      'd Error: full',
      'c rejected with Error: full',
      'd rejected with Error: full',
    ]);
  });

  it('goes by itself a moment later when no commit comes', async () => {
    const bench = new Bench();
    const told = new Promise<void>((resolve) => {
      bench.transactions.addSoon([put('end')], 0, { done: resolve, failed: () => assert.fail() });
    });
    while (bench.writes.length === 0) await turn();
    bench.writes[0]?.resolve();
    await told;
    await bench.transactions.flush();
  });

  it('goes by itself also behind what rode with another, and leaves no timer behind a flush', async () => {
    const bench = new Bench();
    bench.addSoon('rides');
    bench.add('due');
    while (bench.writes.length === 0) await turn();
    bench.addSoon('waits');
    bench.writes[0]?.resolve();
    while (bench.writes.length === 1) await turn();
    assert.deepEqual(
      bench.writes.map(({ keys }) => keys),
      [['rides', 'due'], ['waits']],
    );
    bench.writes[1]?.resolve();
    await turn();
    const timers = (): number => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
    const before = timers();
    bench.addSoon('last');
    assert.equal(timers(), before + 1);
    const flushed = bench.transactions.flush();
    while (bench.writes.length === 2) await turn();
    bench.writes[2]?.resolve();
    await flushed;
    assert.equal(timers(), before);
  });

  it('tells all others when one that is told throws, and that one that it failed', async () => {
    const bench = new Bench();
    const thrower: Settler = {
      done: () => {
        throw new Error('no');
      },
      failed: (error) => {
        bench.told.push(`thrower ${String(error)}`);
        throw new Error('neither');
      },
    };
    bench.transactions.add([put('a')], 0, thrower);
    bench.add('b');
    await turn();
    bench.writes[0]?.resolve();
    await bench.transactions.flush();
    assert.deepEqual(bench.told, [
      'through a,b',
      'thrower Error: no',
      'misled Error: neither',
      'misled Error: no',
      'b done',
    ]);
  });
});
