/** What happens, told to whoever watches: in batches, as fast as they are read, and no faster. */
import type { AdminServer, EventBatch, EventsRequest } from '../../protocol/generated/admin.js';
import type { Log } from '../log/log.js';
import { streaming } from './answering.js';
import type { MessageDesk } from './message-ports.js';

export function eventCalls(desk: Pick<MessageDesk, 'watch'>, log: Log): Pick<AdminServer, 'watchEvents'> {
  return {
    watchEvents: streaming<EventsRequest, EventBatch>(log, async ({ notable }, { gone, write }) => {
      const events = desk.watch(notable, gone);
      const from = events.end;
      // The first batch is empty and comes at once: from here on nothing is missed in silence.
      await write({ events: [], missed: 0n });
      for await (const { entries, missed } of events.excerpts(from, true, gone)) {
        await write({ events: entries.map((event) => ({ ...event, key: BigInt(event.key) })), missed: BigInt(missed) });
      }
    }),
  };
}
