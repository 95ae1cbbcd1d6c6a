/**
 * The store's side of what a worker hands in: results by themselves, and completions that carry theirs. What is durable
 * is told to whoever sends it on.
 */
import { crashPoint } from '../crash-point.js';
import type { Metadata } from '../message/envelope.js';
import type { DirectiveKey, MessageKey, WorkerName } from '../message/ids.js';
import type { Clock } from '../time.js';
import type { DispatchStore, NewResult } from './ports.js';
import type { Books, Full, HandedResult } from './stream/books.js';

export interface ResultBooksOptions {
  readonly store: Pick<DispatchStore, 'acceptResult' | 'complete' | 'recorded'>;
  readonly clock: Clock;
  readonly worker: WorkerName;
  /** What the worker has registered. */
  readonly handlers: () => readonly DirectiveKey[];
  /** The metadata of a result, with what is passed on of the message it answers. */
  readonly passOn: (metadata: Metadata, responseTo: string) => Metadata;
  /** A new result is on stable storage. */
  readonly onReturn: (key: MessageKey) => void;
}

/** The books of one worker. */
export function resultBooks({ store, clock, worker, handlers, passOn, onReturn }: ResultBooksOptions): Books {
  const newResult = ({ messageId, responseTo, directive, metadata, content }: HandedResult): NewResult => ({
    worker,
    handlers: handlers(),
    messageId,
    responseTo,
    directive,
    metadata: passOn(metadata, responseTo),
    content,
    arrivedAt: clock.now(),
  });
  return {
    accept(result) {
      const accepted = store.acceptResult(newResult(result));
      if (accepted.kind === 'full') return full(0, accepted.lacks);
      const kept = accepted.durable.then(() => {
        FAULT: crashPoint('result.durable');
        if (accepted.kind === 'accepted') onReturn(accepted.key);
      });
      return { kind: 'taken', durable: kept };
    },

    complete(key, results, watch) {
      FAULT: crashPoint('complete.received');
      const [first] = results;
      const one = results.length === 1 && first !== undefined;
      const completed = store.complete(key, one ? [newResult(first)] : results.map(newResult));
      if (completed.kind === 'full') return full(completed.index, completed.lacks);
      // The one promise of a completion: whoever wants to know of it is called from here.
      completed.durable.then(
        (keys) => {
          FAULT: crashPoint('complete.durable');
          for (const each of keys) onReturn(each);
          watch.durable();
        },
        (error: unknown) => watch.failed(error),
      );
      return TAKEN;
    },

    recorded: (key) => store.recorded(key),
  };
}

const TAKEN = { kind: 'taken' } as const;

function full(index: number, lacks: 'spool' | 'destinations'): Full {
  const problem = lacks === 'spool' ? 'the agent’s spool is full' : 'too many destinations wait';
  return { kind: 'full', index, reason: `${problem}: keep the result and send it again later` };
}
