import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { suite, test } from 'node:test';
import { AbsentKeys } from '../../../src/datastore/absent-keys.js';

/** A table that counts how often it was read. */
class Keys {
  #keys: readonly string[] = [];
  parts = 0;
  readonly source = {
    count: () => this.#keys.length,
    keys: (after: string, limit: number) => {
      this.parts += 1;
      const from = this.#keys.findIndex((key) => key > after);
      return from === -1 ? [] : this.#keys.slice(from, from + limit);
    },
  };

  addSome(count: number): readonly string[] {
    const added = Array.from({ length: count }, () => `i/echo/${randomUUID()}`);
    this.#keys = [...this.#keys, ...added].sort();
    return added;
  }
}

suite('keys that are absent', () => {
  test('nothing is told before all keys were read, a part at a time', () => {
    const table = new Keys();
    const known = table.addSome(2_500);
    const absent = new AbsentKeys(table.source);
    assert.equal(absent.has('i/echo/other'), false);
    for (const isWhole of [false, false, true]) {
      absent.read();
      assert.equal(absent.has('i/echo/other'), isWhole);
    }
    assert.ok(known.every((key) => !absent.has(key)));
    absent.read();
    assert.equal(table.parts, 3);
  });

  test('a key that is added while they are read, or later, is not absent', () => {
    const table = new Keys();
    table.addSome(1_500);
    const absent = new AbsentKeys(table.source);
    absent.read();
    absent.add('0/in front of what was read');
    absent.read();
    absent.add('i/echo/later');
    assert.equal(absent.has('0/in front of what was read'), false);
    assert.equal(absent.has('i/echo/later'), false);
  });

  test('of the keys that are not there nearly all are told, also when the filter is full', () => {
    const table = new Keys();
    table.addSome(70_000);
    const absent = new AbsentKeys(table.source);
    for (let part = 0; part < 70; part++) absent.read();
    for (let more = 0; more < 490_000; more++) absent.add(`i/echo/${randomUUID()}`);
    const others = Array.from({ length: 10_000 }, () => randomUUID());
    assert.ok(others.filter((key) => absent.has(key)).length > 9_500);
  });

  test('once it is full, it is filled anew beside itself, without the keys that have left', () => {
    const table = new Keys();
    const absent = new AbsentKeys(table.source);
    absent.read();
    const gone = Array.from({ length: 2 ** 18 }, () => `i/echo/${randomUUID()}`);
    for (const key of gone) absent.add(key);
    const kept = table.addSome(1_024);
    for (const key of kept) absent.add(key);
    absent.read();
    assert.equal(absent.has(gone[0] ?? ''), false, 'the full one goes on until the other is ready');
    absent.add('i/echo/meanwhile');
    absent.read();
    assert.ok(gone.filter((key) => absent.has(key)).length > 260_000);
    assert.ok([...kept, 'i/echo/meanwhile'].every((key) => !absent.has(key)));
  });
});
