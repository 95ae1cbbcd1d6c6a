/** A store as version 0.1.0 left it, in format 1: written byte by byte, since no code of today writes it. */
import { crc32 } from 'node:zlib';
import type { Change, Journal } from '../../src/datastore/index.js';
import { padded } from '../../src/datastore/keys.js';

/** The bytes of a record as format 1 wrote them. */
function written(header: object, content: Buffer): Buffer {
  const json = Buffer.from(JSON.stringify(header));
  const bytes = Buffer.alloc(16 + json.length + content.length);
  bytes.writeUInt32LE(json.length, 4);
  json.copy(bytes, 16);
  content.copy(bytes, 16 + json.length);
  bytes.writeUInt32LE(crc32(bytes.subarray(4)), 0);
  return bytes;
}

function putRecord(table: Change['table'], key: string, header: object, content = '"body"'): Change {
  return { table, key, value: written(header, Buffer.from(content)) };
}

/** A queue, dead letters and known ids, as version 0.1.0 left them. */
export async function writeFormatOne(
  journal: Journal,
  dead: number,
  arrivedAt = Date.parse('2026-01-01T00:00:00Z'),
): Promise<void> {
  const changes: Change[] = [
    { table: 'facts', key: 'format', value: Buffer.from('1') },
    { table: 'facts', key: 'sequence', value: Buffer.from('4097') },
    { table: 'facts', key: 'owner/echo', value: Buffer.from('echo-worker') },
  ];
  for (let key = 1; key <= 3; key++) {
    const path = `i/echo/4/${padded(key)}`;
    const header = { kind: 'inbound', key, state: 'accepted', messageId: `m${key}`, responseTo: '', directive: 'echo' };
    const rest = { directiveKey: 'echo', isFetched: false, priority: 5, arrivedAt, attempts: 0 };
    changes.push(putRecord('records', path, { ...header, ...rest, fetches: 0, dueAt: 0, metadata: [] }), {
      table: 'ids',
      key: `i/echo/m${key}`,
      value: Buffer.from(JSON.stringify({ r: path, k: key })),
    });
  }
  const answer = {
    kind: 'outbound',
    key: 4,
    state: 'queued',
    worker: 'echo-worker',
    messageId: 'r4',
    responseTo: 'm0',
  };
  const rest = { directive: 'echo', destination: { kind: 'data-out' }, arrivedAt, attempts: 0 };
  changes.push(putRecord('records', `o/mqtt/${padded(4)}`, { ...answer, ...rest, dueAt: 0, metadata: [] }));
  for (let key = 10; key < 10 + dead; key++) {
    const failure = { code: 'worker-failed', text: 'it fell' };
    const header = {
      kind: 'dead',
      key,
      direction: 'inbound',
      endedAt: arrivedAt,
      failure,
      messageId: `d${key}`,
    };
    changes.push(putRecord('dead', padded(key), { ...header, directive: 'echo', metadata: [['a', 'b']] }));
  }
  await journal.open();
  await journal.commit(changes);
  await journal.close();
}
