/** What an operator asks about workers: stop, start, restart, free a handler, read what they wrote. */
import { status } from '@grpc/grpc-js';
import type { AdminServer, OutputBatch, OutputRequest } from '../../protocol/generated/admin.js';
import type { Log } from '../log/log.js';
import { quoted } from '../message/index.js';
import { answering, Refusal, streaming, valueOf } from './answering.js';
import type { WorkerDesk } from './ports.js';

type WorkerCalls = Pick<AdminServer, 'restartWorker' | 'stopWorker' | 'startWorker' | 'releaseHandler' | 'readOutput'>;

export function workerCalls(desk: WorkerDesk, log: Log): WorkerCalls {
  return {
    restartWorker: answering(log, ({ name }) => {
      valueOf(desk.restart(name));
      return {};
    }),
    stopWorker: answering(log, async ({ name }) => valueOf(await desk.stop(name))),
    startWorker: answering(log, async ({ name }) => valueOf(await desk.start(name))),
    releaseHandler: answering(log, async ({ handler }) => valueOf(await desk.release(handler))),
    readOutput: streaming<OutputRequest, OutputBatch>(log, async ({ worker, last, follow }, { gone, write }) => {
      const ring = desk.output(worker);
      if (ring === undefined) throw new Refusal(status.NOT_FOUND, `there is no worker ${quoted(worker)}`);
      for await (const { entries, missed } of ring.excerpts(ring.last(last), follow, gone)) {
        await write({
          lines: entries.map(({ at, ...line }) => ({ at: BigInt(Math.round(at)), ...line })),
          missed: BigInt(missed),
        });
      }
    }),
  };
}
