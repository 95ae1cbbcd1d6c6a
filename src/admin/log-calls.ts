/** The agent's own log, as an operator reads it: the lines that were written, from memory. */
import { status } from '@grpc/grpc-js';
import type { AdminServer, LogBatch, LogRequest } from '../../protocol/generated/admin.js';
import type { Log, LogLevel } from '../log/log.js';
import { quoted } from '../message/index.js';
import { Refusal, streaming } from './answering.js';
import type { LogDesk } from './ports.js';

/** From the gravest on. */
export const LOG_LEVELS: readonly LogLevel[] = ['error', 'warn', 'info', 'debug', 'trace'];

export function logCalls(desk: LogDesk | undefined, log: Log): Pick<AdminServer, 'readLog'> {
  return {
    readLog: streaming<LogRequest, LogBatch>(log, async ({ last, follow, level }, { gone, write }) => {
      if (desk === undefined) {
        throw new Refusal(status.FAILED_PRECONDITION, 'this agent is part of another program, which keeps its log');
      }
      const least = LOG_LEVELS.findIndex((each) => each === level);
      if (level !== '' && least < 0) throw new Refusal(status.INVALID_ARGUMENT, `no log level is ${quoted(level)}`);
      const isWanted = (line: string): boolean => level === '' || rankOf(line) <= least;
      const { lines } = desk;
      // The first batch comes in any case: it tells the level that the agent logs at.
      const kept = lines.read(0, lines.end).entries.filter(isWanted);
      const from = lines.end;
      await write({ lines: last === 0 ? [] : kept.slice(-last), missed: 0n, level: desk.level });
      if (!follow) return;
      for await (const { entries, missed } of lines.excerpts(from, true, gone)) {
        const wanted = entries.filter(isWanted);
        if (wanted.length > 0 || missed > 0) await write({ lines: wanted, missed: BigInt(missed), level: desk.level });
      }
    }),
  };
}

/** How grave a line is: 0 is the gravest. The level stands first in it, so nothing has to be parsed. */
function rankOf(line: string): number {
  const level = /^\{"level":"([a-z]+)"/.exec(line)?.[1];
  return LOG_LEVELS.findIndex((each) => each === level);
}
