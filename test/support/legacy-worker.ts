/** A worker as it was written for the original, as an executable of its own: plain unary calls, no SDK of ours. */
import { join } from 'node:path';
import { build } from 'esbuild';
import { bookFile } from './book-worker.js';
import { ROOT, type Home } from './yggd.js';

export interface LegacyWorkerOptions {
  readonly handler: string;
  /** JavaScript: what it does with `data`; `note`, `worker` (a TestWorker), `status` and WorkerStatus are there. */
  readonly body: string;
  readonly features?: Readonly<Record<string, string>>;
  /** JavaScript: what it does once it has registered and listens. */
  readonly after?: string;
}

/** Puts such a worker into the worker directory. It writes a book as `bookWorker` does. */
export async function addLegacyWorker(home: Home, name: string, options: LegacyWorkerOptions): Promise<void> {
  const bundle = home.path('draft', 'legacy.cjs');
  await build({
    entryPoints: [join(ROOT, 'test/support/worker.ts')],
    outfile: bundle,
    bundle: true,
    platform: 'node',
    format: 'cjs',
    logLevel: 'error',
  });
  await home.addProgram(
    name,
    `#!${process.env['YGG_TEST_NODE'] ?? process.execPath}
import { appendFileSync, existsSync } from 'node:fs';
import legacy from ${JSON.stringify(bundle)};
const { TestWorker, WorkerStatus } = legacy;
const note = (word, id) =>
  appendFileSync(${JSON.stringify(bookFile(home, name))}, word + ' ' + id + ' ' + Number(process.hrtime.bigint()) / 1e6 + '\\n');
const worker = new TestWorker({ address: process.env.YGG_SOCKET_ADDR, handler: async (data) => {
  note('handle', data.messageId);
  ${options.body}
} });
await worker.join(${JSON.stringify(options.handler)}, { pid: BigInt(process.pid), features: ${JSON.stringify(options.features ?? {})} });
${options.after ?? ''}
setInterval(() => undefined, 2 ** 30);
`,
  );
}
