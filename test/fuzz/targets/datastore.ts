/** What stands on disk after a power cut or a flipped bit: records, and the small values beside them. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { Datastore, MemoryJournal, type Change, type Table } from '../../../src/datastore/index.js';
import { inboundIdKey, padded } from '../../../src/datastore/keys.js';
import { decodeRecord, encodeRecord, storedSize, type AnyRecord } from '../../../src/datastore/record-codec.js';
import { silentLog } from '../../../src/log/log.js';
import { directiveKey, messageKey, metadataFrom } from '../../../src/message/index.js';
import { systemClock } from '../../../src/time.js';
import { directive, inbound } from '../../support/messages.js';
import { tempDir, type TempDir } from '../../support/temp.js';
import { byteExamples, mutated } from '../corpus.js';
import { claim, target, type Target } from '../target.js';

const key = messageKey(7);
const echo = directive('echo');
const { arrivedAt: _arrivedAt, ...message } = inbound('a', { metadata: metadataFrom([['__proto__', 'x']]) });
const records: readonly AnyRecord[] = [
  {
    ...message,
    content: { kind: 'inline', bytes: message.content },
    kind: 'inbound',
    key,
    state: 'accepted',
    directiveKey: directiveKey(echo),
    isFetched: false,
    arrivedAt: 1,
    attempts: 0,
    fetches: 0,
    dueAt: 0,
    replyTopic: { kind: 'topic', topic: 't', correlationData: Buffer.from([0, 255]) },
    replayOf: undefined,
  },
  {
    kind: 'dead',
    key,
    direction: 'inbound',
    endedAt: 1,
    failure: { code: 'malformed', text: 'x' },
    messageId: '',
    directive: '',
    metadata: metadataFrom([]),
    content: { kind: 'file', path: '/c/f', size: 99 },
    origin: { kind: 'refused' },
  },
];
const encoded = records.map(encodeRecord);

const NOW = Date.UTC(2026, 0, 1);
/** A value for each kind of entry, which is then damaged. */
const entries: readonly { readonly table: Table; readonly key: string; readonly value: Buffer }[] = [
  { table: 'facts', key: 'sent', value: Buffer.from(String(NOW)) },
  { table: 'facts', key: 'sequence', value: Buffer.from('4097') },
  { table: 'facts', key: 'owner/echo', value: Buffer.from('echo-worker') },
  { table: 'facts', key: 'command/c', value: Buffer.from(String(NOW)) },
  { table: 'facts', key: 'cancel/echo/b', value: Buffer.from(String(NOW)) },
  {
    table: 'ids',
    key: inboundIdKey(directiveKey(echo), 'a'),
    value: Buffer.from(JSON.stringify({ e: 'delivered', a: NOW })),
  },
  {
    table: 'ids',
    key: inboundIdKey(directiveKey(echo), 'b'),
    value: Buffer.from('{"r":"i/echo/4/00000000007","k":7}'),
  },
  { table: 'ended', key: `${padded(NOW)}/${padded(7)}`, value: Buffer.from('i/echo/a') },
  { table: 'alarms', key: `${padded(NOW)}/${padded(7)}`, value: Buffer.from('i/echo/4/00000000007') },
  { table: 'dead', key: padded(7), value: encoded[1] ?? Buffer.alloc(0) },
];

interface Opened {
  readonly sent: number;
  readonly answers: readonly string[];
  readonly dead: number;
  /** Events of the log at `error`. */
  readonly errors: readonly string[];
}

/** Made at the first input, so that nothing is left of a target that was not run. */
let home: Promise<TempDir> | undefined;

async function openOver(changes: readonly Change[]): Promise<Opened> {
  home ??= tempDir();
  const { path } = await home;
  const errors: string[] = [];
  const journal = new MemoryJournal();
  await journal.open();
  await journal.commit(changes);
  const store = new Datastore({
    stateDir: path,
    journal,
    clock: { ...systemClock, now: () => NOW },
    log: { ...silentLog, error: (event) => void errors.push(event) },
    spool: { limit: 2 ** 30, reserve: 0 },
    dead: { bytes: 2 ** 28, age: 30 * 24 * 3600_000 },
    dedupe: { age: 7 * 24 * 3600_000, count: 250_000 },
    lifetimes: { message: 24 * 3600_000, unknownDirective: 60_000, result: 7 * 24 * 3600_000 },
  });
  await store.open();
  try {
    store.resume();
    const sent = await store.reserveSent(NOW);
    const accepted = ['a', 'b', 'c'].map((id) => store.accept(inbound(id, { arrivedAt: NOW })));
    for (const each of accepted) if (each.kind !== 'full') await each.durable;
    const failure = { code: 'malformed' as const, text: 'x' };
    await store.bury({ failure, content: Buffer.alloc(0), arrivedAt: NOW });
    return { sent, answers: accepted.map(({ kind }) => kind), dead: [...store.deadLetters()].length, errors };
  } finally {
    await store.close();
  }
}

export const datastoreTargets: readonly Target[] = [
  target('records that were torn or flipped', {
    inputs: mutated(encoded),
    examples: [...byteExamples, ...encoded],
    share: 2,
    run: (bytes) => ({ record: decodeRecord(bytes, '/c'), size: storedSize(bytes) }),
    judge: ({ record, size }, bytes) => {
      claim(size >= bytes.length && Number.isFinite(size), 'a size that cannot be');
      const same = encoded.findIndex((each) => each.equals(bytes));
      if (record === undefined) assert.equal(same, -1);
      else assert.deepEqual(record, records[same]);
    },
  }),
  target('a store opened over damaged values', {
    inputs: fc.tuple(...entries.map(({ value }) => fc.option(mutated([value], 4_096), { nil: value, freq: 2 }))),
    examples: byteExamples.map((bytes) => entries.map(() => bytes)),
    share: 0.05,
    run: (values) => openOver(entries.map((entry, n) => ({ ...entry, value: values[n] }))),
    judge: ({ sent, answers, dead, errors }) => {
      // What is published as `sent` must be a time that can be written.
      claim(sent >= NOW && /^\d{4}-/.test(new Date(sent).toISOString()), `sent at ${sent}`);
      claim(answers.every((each) => each !== 'full'));
      claim(dead >= 1, 'what was given up is gone');
      claim(!errors.includes('journal.alarms_failed'), 'one alarm keeps all others from ringing');
    },
    close: async () => {
      await (await home)?.[Symbol.asyncDispose]();
      home = undefined;
    },
  }),
];
