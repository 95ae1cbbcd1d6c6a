/** The rules of stream.proto that an agent's frame must keep. Pure; what breaks one ends the call, never the worker. */
import type { AgentFrame, Delivery } from '../../../protocol/generated/stream.js';
import type { Data } from '../../../protocol/generated/yggdrasil.js';
import type { Load, Window } from './window.js';

/** The other side broke a rule of the stream; the text names it. */
export class RuleBroken extends Error {
  override readonly name = 'RuleBroken';
}

/** The first frame has a welcome, and no other has. */
export function checkWelcome({ welcome }: AgentFrame, isFirst: boolean): void {
  if (isFirst && welcome === undefined) throw new RuleBroken("the agent's first frame is no Welcome");
  if (!isFirst && welcome !== undefined) throw new RuleBroken('a second Welcome');
}

/** The deliveries that are not answered: no more than the window that the worker announced. */
export function checkWindow({ tag }: Delivery, load: Load, window: Window): void {
  if (!window.admits(load)) throw new RuleBroken(`delivery ${tag} is beyond the worker's window`);
}

/** A delivery must hold a message, a free tag, and a content either in the frame or as a body. Gives the message. */
export function checkDelivery({ tag, priority, data, body }: Delivery, isTaken: boolean): Data {
  if (isTaken) throw new RuleBroken(`a delivery with tag ${tag}, which is in use`);
  if (data === undefined) throw new RuleBroken(`delivery ${tag} has no data`);
  if (priority > 9) throw new RuleBroken(`delivery ${tag} has priority ${priority}`);
  if (body === undefined) return data;
  if (data.content.length > 0) throw new RuleBroken(`delivery ${tag} has a content and a body`);
  if (body.size > BigInt(Number.MAX_SAFE_INTEGER)) throw new RuleBroken(`the body of delivery ${tag} is too large`);
  return data;
}
