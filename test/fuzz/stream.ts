/** A worker's stream without a wire: what its frames do, with two deliveries in flight. */
import { Bodies } from '../../src/dispatcher/stream/bodies.js';
import { Outbox } from '../../src/dispatcher/stream/outbox.js';
import { Results } from '../../src/dispatcher/stream/results.js';
import { StreamLink } from '../../src/dispatcher/stream/stream-link.js';
import { messageKey } from '../../src/message/ids.js';
import { FakeClock } from '../support/clock.js';
import { inboundRecord } from '../support/messages.js';

const WINDOW = { messages: 8, bytes: 1000, bodies: 2 };

export interface FuzzedStream {
  readonly link: StreamLink;
  readonly bodies: Bodies;
  /** Deliveries that have ended. */
  readonly answers: number;
  close(): void;
}

/** A disk that takes nothing: no byte of a hostile body is to be written by the fuzzer. */
const store = {
  openContent: () => Promise.reject(new Error('no disk')),
  newContentFile: () => ({
    write: () => Promise.reject(new Error('no disk')),
    finish: () => Promise.reject(new Error('no disk')),
    discard: () => Promise.resolve(),
  }),
  discardContentFile: () => Promise.resolve(),
  reserve: (): (() => void) => () => undefined,
};

export function fuzzedStream(): FuzzedStream {
  let answers = 0;
  const outbox = new Outbox({ write: (_frame, sent) => sent(), gather: () => undefined });
  const bodies = new Bodies({ store, mostIncoming: WINDOW.bodies, onBroken: () => undefined });
  const durable = Promise.resolve();
  const link = new StreamLink({
    outbox,
    bodies: bodies.outgoing,
    clock: new FakeClock(),
    window: WINDOW,
    maxBody: 1000,
    end: () => undefined,
    results: new Results({
      limits: WINDOW,
      checks: { resultSize: 1000, metadataSize: 200 },
      store,
      bodies: bodies.incoming,
    }),
    books: {
      complete: (_key, _results, watch) => {
        void durable.then(() => watch.durable());
        return { kind: 'taken' };
      },
      accept: () => ({ kind: 'taken', durable }),
      recorded: () => durable,
    },
  });
  for (const key of [1, 2]) {
    const bytes = Buffer.from('"x"');
    const record = inboundRecord({
      key: messageKey(key),
      state: 'dispatching',
      messageId: `m${key}`,
      content: { kind: 'inline', bytes },
    });
    link.send({ record, report: () => (answers += 1) }, bytes);
  }
  return {
    link,
    bodies,
    get answers() {
      return answers;
    },
    close: () => {
      link.gone();
      outbox.close();
      bodies.incoming.close();
      bodies.outgoing.close();
    },
  };
}
