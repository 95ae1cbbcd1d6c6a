/** What the queues and whoever asks them for a replay tell each other. */
import type { InboundEnd, MessageKey } from '../message/index.js';

/** What came of a replay; nothing has changed unless it is `replayed`. */
export type Replay =
  | { readonly kind: 'replayed'; readonly key: MessageKey }
  /** No dead message has that key, or another replay takes it out just now. */
  | { readonly kind: 'unknown' }
  /** It never was a message that could be delivered, or too little was kept of it. */
  | { readonly kind: 'not-replayable'; readonly reason: string }
  /** The same message came again and is in the queue. */
  | { readonly kind: 'pending' }
  /** The same message came again and ended otherwise since. */
  | { readonly kind: 'superseded'; readonly end: InboundEnd | 'result' }
  /** The spool has no room, or too many destinations wait. */
  | { readonly kind: 'full' };
