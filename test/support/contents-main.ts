/**
 * A process that takes messages and results with large contents into the store at `contents-main STATE`, and is gone in the
 * moment all of it is durable. Their bytes are those of `contentOf`.
 */
import { crc32 } from 'node:zlib';
import { inbound, result } from './messages.js';
import { openTestStore } from './store.js';

/** What a content is made of, by its name. */
export function contentOf(name: string, size: number): Buffer {
  return Buffer.alloc(size, `${name} ${crc32(name)} `);
}

export const SIZES = { message: 70_000, whole: 80_000, body: 1_000_000, long: 3_000_000 } as const;

const [stateDir] = process.argv.slice(2);
if (stateDir !== undefined) {
  const { store } = await openTestStore({ stateDir, isOnDisk: true });
  const accepted = store.accept(inbound('message', { content: contentOf('message', SIZES.message) }));
  const body = await store.newContentFile('result').finish([contentOf('body', SIZES.body)]);
  const file = store.newContentFile('result');
  const long = contentOf('long', SIZES.long);
  await file.write([long.subarray(0, 1_000_000), long.subarray(1_000_000, 1_500_000)]);
  const rest = await file.finish([long.subarray(1_500_000)]);
  const results = [
    store.acceptResult(result('whole', { content: contentOf('whole', SIZES.whole) })),
    store.acceptResult(result('body', { content: body })),
    store.acceptResult(result('long', { content: rest })),
  ];
  if (accepted.kind !== 'accepted') throw new Error(accepted.kind);
  await accepted.durable;
  for (const each of results) {
    if (each.kind !== 'accepted') throw new Error(each.kind);
    await each.durable;
  }
  process.kill(process.pid, 'SIGKILL');
}
