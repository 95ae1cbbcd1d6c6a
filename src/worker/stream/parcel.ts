/** Results that go together, and what of their contents goes as bodies. Pure. */
import { Completion, type Result } from '../../../protocol/generated/stream.js';
import type { Data } from '../../../protocol/generated/yggdrasil.js';
import type { Load } from './window.js';

/** A content over this goes as a body. */
const MOST_INLINE: number = 64 * 1024;
/** Of all contents of a completion that stand in its frame. */
const MOST_TOGETHER: number = 192 * 1024;
/** The largest frame that an agent takes from a worker. */
const LARGEST_FRAME: number = 4 * 1024 * 1024;
/** What a message takes in a frame beside its texts and content, rounded up. */
export const OVERHEAD = 96;

/** Results that are admitted as one: those of a completion, or one alone. */
export interface Parcel {
  /** The completion's tag; undefined for a result outside a completion. */
  readonly tag: number | undefined;
  readonly results: readonly Result[];
  /** What it takes of the agent's window. */
  readonly load: Load;
  /** The contents that go on Transfer. */
  readonly bodies: readonly { readonly number: number; readonly content: Buffer }[];
  /** What it takes in a frame, at most. */
  readonly weight: number;
}

const NONE: Parcel['bodies'] = [];
const EMPTY = Buffer.alloc(0);

/** Makes results of replies; `number` names each. */
export function parcelOf(tag: number | undefined, replies: readonly Data[], number: () => number): Parcel {
  const results: Result[] = [];
  let bodies: { number: number; content: Buffer }[] | undefined;
  let bytes = 0;
  let weight = OVERHEAD;
  for (const data of replies) {
    const { content } = data;
    const result: Result = { number: number(), data, body: undefined };
    if (content.length > MOST_INLINE || bytes + content.length > MOST_TOGETHER) {
      result.data = { ...data, content: EMPTY };
      result.body = { size: BigInt(content.length) };
      (bodies ??= []).push({ number: result.number, content });
    } else bytes += content.length;
    weight += weightOf(data);
    results.push(result);
  }
  const load = { messages: results.length, bytes, bodies: bodies?.length ?? 0 };
  return { tag, results, load, bodies: bodies ?? NONE, weight: weight + bytes };
}

/** Why no frame can hold it; undefined where one can. */
export function problemOf({ results, weight }: Parcel): string | undefined {
  if (weight <= LARGEST_FRAME) return undefined;
  const size = Completion.encode({ tag: 0, results: [...results] }).finish().length + OVERHEAD;
  if (size <= LARGEST_FRAME) return undefined;
  return `the replies and their metadata take ${size} bytes in a frame, which holds ${LARGEST_FRAME}`;
}

/** An upper bound of all but the content: a text may need three bytes for each of its units. */
function weightOf({ messageId, responseTo, directive, metadata }: Data): number {
  let weight = OVERHEAD + (messageId.length + responseTo.length + directive.length) * 3;
  for (const name in metadata) weight += 16 + (name.length + (metadata[name]?.length ?? 0)) * 3;
  return weight;
}
