/** What the agent tells about its connection to the broker, in the SDK's words. Pure. */
import { Event as WireEvent, type EventNotification } from '../../protocol/generated/yggdrasil.js';

/** What the agent tells about its connection to the broker. */
export interface WorkerEvent {
  readonly name: 'disconnect-received' | 'disconnected' | 'connection-restored' | 'unknown';
  readonly detail: string;
  readonly metadata: Readonly<Record<string, string>>;
}

/** The event as a handler of events sees it. */
export function eventFrom({ name, detail, metadata }: EventNotification): WorkerEvent {
  switch (name) {
    case WireEvent.RECEIVED_DISCONNECT:
      return { name: 'disconnect-received', detail, metadata };
    case WireEvent.UNEXPECTED_DISCONNECT:
      return { name: 'disconnected', detail, metadata };
    case WireEvent.CONNECTION_RESTORED:
      return { name: 'connection-restored', detail, metadata };
    default:
      return { name: 'unknown', detail, metadata };
  }
}
