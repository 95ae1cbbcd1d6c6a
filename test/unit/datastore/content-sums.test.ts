/** The sums of contents: their key, and results that came to a version without them. */
import assert from 'node:assert/strict';
import { hash, randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, test } from 'node:test';
import { changesFor, ContentSums } from '../../../src/datastore/content-sums.js';
import { MemoryJournal, type Change, type Datastore, type NewOutbound } from '../../../src/datastore/index.js';
import { END } from '../../../src/datastore/journal.js';
import { decodeRecord, encodeRecord } from '../../../src/datastore/record-codec.js';
import { silentLog } from '../../../src/log/log.js';
import { directiveKey } from '../../../src/message/index.js';
import { recordingLog } from '../../support/log.js';
import { directive, inbound, result } from '../../support/messages.js';
import { openTestStore, take } from '../../support/store.js';
import { tempDir } from '../../support/temp.js';

const LARGE = randomBytes(100_000);
const ECHO = directiveKey(directive('echo'));

async function journalWith(changes: Change[]): Promise<MemoryJournal> {
  const journal = new MemoryJournal();
  await journal.open();
  await journal.commit(changes);
  return journal;
}

async function opened(journal: MemoryJournal, log = silentLog): Promise<ContentSums> {
  const sums = new ContentSums();
  await sums.open(journal, log);
  return sums;
}

test('a sum is that of the bytes and of the store: the same at each start, another in another store', async () => {
  const journal = await journalWith(changesFor(false));
  const [first, second] = [await opened(journal), await opened(journal)];
  const other = await opened(await journalWith(changesFor(false)));
  assert.equal(first.of(LARGE), second.of(LARGE));
  assert.notEqual(first.of(LARGE), other.of(LARGE));
  const pieces = second.begin();
  for (let at = 0; at < LARGE.length; at += 16_411) pieces.update(LARGE.subarray(at, at + 16_411));
  assert.equal(pieces.end(), first.of(LARGE));
  for (const at of [0, 50_000, 99_999]) {
    const flipped = Buffer.from(LARGE);
    flipped[at] = (flipped[at] ?? 0) ^ 1;
    assert.notEqual(first.of(flipped), first.of(LARGE));
  }
  assert.notEqual(first.of(Buffer.concat([LARGE, Buffer.alloc(1)])), first.of(LARGE));
});

test('a key that is lost or damaged is told, made anew and kept, and sums from before tell nothing', async () => {
  for (const harm of [undefined, '', 'x'.repeat(39), `${'0'.repeat(32)}abcdef.`]) {
    const journal = await journalWith(changesFor(false));
    const before = await opened(journal);
    const file = { kind: 'file', path: '', size: LARGE.length, sum: before.of(LARGE) } as const;
    await journal.commit([{ table: 'facts', key: 'content-key', value: harm }]);
    const log = recordingLog();
    const after = await opened(journal, log);
    assert.deepEqual(
      log.lines.map(({ event }) => event),
      ['journal.torn'],
    );
    assert.notEqual(after.of(LARGE), file.sum);
    assert.equal((await opened(journal)).of(LARGE), after.of(LARGE));
    const unknown = after.checkOf(file);
    unknown.update(Buffer.from('other bytes'));
    assert.ok(unknown.holds());
    const known = before.checkOf(file);
    known.update(Buffer.from('other bytes'));
    assert.ok(!known.holds());
  }
});

test('the key stands nowhere but in its fact', async () => {
  const journal = new MemoryJournal();
  await using test = await openTestStore({ journal });
  const key = journal.get('facts', 'content-key')?.toString().slice(0, 32) ?? '';
  assert.match(key, /^[0-9a-f]{32}$/);
  const accepted = test.store.acceptResult(result('r', { content: LARGE }));
  assert.ok(accepted.kind === 'accepted');
  await accepted.durable;
  for (const table of ['records', 'ids', 'files'] as const)
    for (const [name, value] of journal.range(table, { after: '', before: END })) {
      assert.ok(!name.includes(key) && !value.includes(key));
      assert.ok(!value.includes(Buffer.from(key, 'hex')));
    }
});

describe('a large result', () => {
  /** As a body that came bit by bit. */
  const asFile = async (store: Datastore, bytes: Buffer): Promise<NewOutbound['content']> => {
    const file = store.newContentFile('result');
    await file.write([bytes.subarray(0, 30_000)]);
    return file.finish([bytes.subarray(30_000)]);
  };
  const other = Buffer.concat([LARGE.subarray(1), Buffer.alloc(1)]);
  /** What became of it, once that is durable. */
  const came = async (store: Datastore, offered: NewOutbound): Promise<string> => {
    const acceptance = store.acceptResult(offered);
    if (acceptance.kind !== 'full') await acceptance.durable;
    return acceptance.kind;
  };

  it('is one with its copy, however that comes and whenever', async () => {
    const journal = new MemoryJournal();
    {
      await using test = await openTestStore({ journal });
      const { store } = test;
      assert.equal(await came(store, result('small', { content: LARGE.subarray(0, 10_000) })), 'accepted');
      assert.equal(await came(store, result('whole', { content: LARGE })), 'accepted');
      assert.equal(await came(store, result('body', { content: await asFile(store, LARGE) })), 'accepted');
    }
    await using test = await openTestStore({ journal });
    const { store } = test;
    assert.equal(await came(store, result('small', { content: LARGE.subarray(0, 10_000) })), 'duplicate');
    assert.equal(await came(store, result('small', { content: other.subarray(0, 10_000) })), 'accepted');
    for (const id of ['whole', 'body']) {
      assert.equal(await came(store, result(id, { content: LARGE })), 'duplicate');
      assert.equal(await came(store, result(id, { content: await asFile(store, LARGE) })), 'duplicate');
      assert.equal(await came(store, result(id, { content: other })), 'accepted');
    }
  });

  it('that came to an older version, by itself or with its request, is not taken again', async () => {
    const sha256 = hash('sha256', LARGE, 'base64url');
    const small = LARGE.subarray(0, 10_000);
    const now = Date.now();
    const journal = await journalWith([
      { table: 'facts', key: 'format', value: '4' },
      { table: 'ids', key: `o/echo-worker/alone/${sha256}`, value: `{"e":"result","a":${now}}` },
      {
        table: 'ids',
        key: `o/echo-worker/small/${hash('sha256', small, 'base64url')}`,
        value: `{"e":"result","a":${now}}`,
      },
      {
        table: 'ids',
        key: 'i/echo/request',
        value: `{"e":"delivered","a":${now},"o":["o/echo-worker/with/${sha256}"]}`,
      },
    ]);
    for (const start of [1, 2]) {
      await using test = await openTestStore({ journal });
      const { store } = test;
      const of = { handlers: [ECHO], responseTo: 'request' };
      assert.equal(await came(store, result('small', { content: small })), 'duplicate', `start ${start}`);
      assert.equal(await came(store, result('small', { content: LARGE.subarray(1, 10_001 + start) })), 'accepted');
      for (const content of [LARGE, await asFile(store, LARGE)]) {
        assert.equal(await came(store, result('alone', { content })), 'duplicate', `start ${start}`);
      }
      for (const content of [LARGE, await asFile(store, LARGE)]) {
        assert.equal(await came(store, result('with', { ...of, content })), 'duplicate', `start ${start}`);
      }
      // A request that comes again has its results again.
      const key = await take(store, store.accept(inbound(`again${start}`)));
      store.markReady(key);
      store.markDispatching(key);
      const completed = store.complete(key, [result('alone', { content: await asFile(store, LARGE) })]);
      assert.ok(completed.kind === 'taken');
      assert.deepEqual(await completed.durable, []);
      if (start === 1) continue;
      for (const content of [other, await asFile(store, other)]) {
        const kind = content === other ? 'accepted' : 'duplicate';
        assert.equal(await came(store, result('alone', { content })), kind);
      }
      assert.equal(await came(store, result('with', { ...of, content: other })), 'accepted');
      assert.equal(await came(store, result('new', { content: LARGE })), 'accepted');
    }
  });

  it('that waited in an older version, and was sent by this one, is not taken again', async () => {
    const sha256 = hash('sha256', LARGE, 'base64url');
    await using dir = await tempDir();
    const stateDir = dir.path;
    const journal = new MemoryJournal();
    {
      await using test = await openTestStore({ journal, stateDir });
      assert.equal(await came(test.store, result('r', { content: await asFile(test.store, LARGE) })), 'accepted');
    }
    await journal.open();
    const [[idKey, pending] = ['', undefined]] = journal.range('ids', { after: '', before: END });
    const [[path, bytes] = ['', Buffer.alloc(0)]] = journal.range('records', { after: '', before: END });
    const record = decodeRecord(bytes, join(stateDir, 'content'));
    assert.ok(record?.kind === 'outbound');
    const olderKey = `o/echo-worker/r/${sha256}`;
    await journal.commit([
      { table: 'facts', key: 'results-by-sha256', value: '1' },
      { table: 'records', key: path, value: encodeRecord({ ...record, idKey: olderKey }) },
      { table: 'ids', key: idKey, value: undefined },
      { table: 'ids', key: olderKey, value: pending },
    ]);
    for (const isSent of [false, true, true]) {
      await using test = await openTestStore({ journal, stateDir });
      const { store } = test;
      const next = store.nextOutbound('mqtt');
      if (isSent && next !== undefined) assert.ok(await store.endOutbound(next.key, 'sent'));
      for (const content of [LARGE, await asFile(store, LARGE)])
        assert.equal(await came(store, result('r', { content })), 'duplicate', `sent: ${isSent}`);
    }
  });

  it('whose file cannot be read is new', async () => {
    const journal = await journalWith([
      { table: 'facts', key: 'format', value: '4' },
      { table: 'ids', key: 'o/echo-worker/r/other', value: `{"e":"result","a":${Date.now()}}` },
    ]);
    await using test = await openTestStore({ journal });
    const content = await asFile(test.store, LARGE);
    assert.ok(!Buffer.isBuffer(content));
    await rm(content.path);
    assert.equal(await came(test.store, result('r', { content })), 'accepted');
  });

  it('is known also where the store has lost its facts, as far as they were for it', async () => {
    const sha256 = hash('sha256', LARGE, 'base64url');
    for (const lost of [['format'], ['format', 'content-key', 'results-by-sha256']]) {
      const journal = await journalWith([
        { table: 'facts', key: 'format', value: '4' },
        { table: 'ids', key: `o/echo-worker/r/${sha256}`, value: `{"e":"result","a":${Date.now()}}` },
      ]);
      {
        await using test = await openTestStore({ journal });
        assert.equal(await came(test.store, result('new', { content: LARGE })), 'accepted');
      }
      await journal.open();
      await journal.commit(lost.map((key) => ({ table: 'facts', key, value: undefined })));
      const log = recordingLog();
      await using test = await openTestStore({ journal, log });
      const isKeyLost = lost.includes('content-key');
      assert.equal(
        log.lines.some(({ event }) => event === 'journal.torn'),
        isKeyLost,
      );
      assert.equal(await came(test.store, result('r', { content: LARGE })), 'duplicate');
      assert.equal(await came(test.store, result('new', { content: LARGE })), isKeyLost ? 'accepted' : 'duplicate');
    }
  });

  it('is looked for among those of an older version only where there was one', async () => {
    const sha256 = hash('sha256', LARGE, 'base64url');
    const journal = new MemoryJournal();
    {
      await using _test = await openTestStore({ journal });
    }
    await journal.open();
    await journal.commit([
      { table: 'ids', key: `o/echo-worker/r/${sha256}`, value: `{"e":"result","a":${Date.now()}}` },
    ]);
    await using test = await openTestStore({ journal });
    assert.equal(await came(test.store, result('r', { content: LARGE })), 'accepted');
  });
});
