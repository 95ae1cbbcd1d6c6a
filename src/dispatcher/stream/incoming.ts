/**
 * Bodies of results on their way in. A chunk may come before the frame that names its body: it is taken as far as the
 * first window goes. Each body ends with one `last`; one that is not wanted any more is dropped until that comes. When
 * more comes than the disk takes, or than was named, nothing more is read for a while: so memory and open files are
 * bounded whatever a worker sends.
 */
import type { BodyCredit, Chunk } from '../../../protocol/generated/stream.js';
import { errorText } from '../../errors.js';
import { INLINE_LIMIT, type SummedContent } from '../../message/record.js';
import { BodySink, type BodyFiles } from './body-sink.js';
import { Violation } from './violation.js';

/** Bytes of a body that may come without a credit. */
export const FIRST_WINDOW = 1024 * 1024;

/** Bytes of a chunk. */
export const MOST_IN_CHUNK = 256 * 1024;

/** Bytes that wait for the disk; with more the worker waits. */
const MOST_UNWRITTEN = 8 * 1024 * 1024;

/** Writes and syncs under way; with more the worker waits. */
const MOST_WRITES = 64;

/** Bodies that no result has named yet; with more the worker waits until it names them. */
const MOST_UNNAMED = 64;

/** Bodies that may be known at all, nearly all of them waiting for their first chunk or being dropped. */
const MOST_BODIES = 65_536;

/** What became of a body that was expected. */
export type Arrival =
  | { readonly kind: 'whole'; readonly content: Buffer | SummedContent }
  /** The worker could not read on, or the agent could not write. */
  | { readonly kind: 'broken'; readonly reason: string };

interface Incoming {
  readonly sink: BodySink;
  /** As the result that names it says; undefined until that came. */
  size: number | undefined;
  received: number;
  /** How much may have come by now: the first window and all credits. */
  allowed: number;
  /** Used before it was named: credited then. */
  owed: number;
  /** Its last chunk came. */
  hasEnded: boolean;
  /** What comes is of no use any more. */
  isDropping: boolean;
  /** Known before anybody asked. */
  arrival: Arrival | undefined;
  arrived: ((arrival: Arrival) => void) | undefined;
}

export interface IncomingOptions {
  readonly files: BodyFiles;
  /** Bodies that a worker sends side by side. */
  readonly bodies: number;
  readonly credit: (credit: BodyCredit) => void;
  /** Nothing more is to be read for now, or again. */
  readonly onPressure: (isHigh: boolean) => void;
}

export class IncomingBodies {
  readonly #bodies = new Map<number, Incoming>();
  /** Some of it came, and more is to come. */
  readonly #begun = new Set<Incoming>();
  readonly #unnamed = new Set<Incoming>();
  #unwritten = 0;
  #writes = 0;
  #isHigh = false;

  constructor(private readonly options: IncomingOptions) {}

  /** Bodies that have not come to their end. */
  get count(): number {
    return this.#bodies.size;
  }

  /** A result names a body. `arrived` is called once, not in this turn. Throws a Violation. */
  expect(id: number, size: number, arrived: (arrival: Arrival) => void): void {
    const body = this.#bodies.get(id) ?? this.#add(id);
    const { arrival } = body;
    const isUnwanted = body.isDropping && arrival === undefined;
    if (body.size !== undefined || isUnwanted) throw new Violation(`the number ${id} had a body before`);
    body.size = size;
    this.#unnamed.delete(body);
    this.#weigh();
    // A broken one need not have come to its end.
    if (arrival?.kind !== 'broken') check(id, body);
    body.arrived = arrived;
    this.#credit(id, body, body.owed);
    if (arrival !== undefined) queueMicrotask(() => this.#tell(id, body, arrival));
  }

  /** A part of a body, whose bytes are there until it returns. Throws a Violation. */
  chunk({ id, offset, data, last, aborted }: Chunk): void {
    if (data.length > MOST_IN_CHUNK) throw new Violation(`a chunk may have ${MOST_IN_CHUNK} bytes`);
    if (aborted && !last) throw new Violation('an aborted body ends with its chunk');
    const body = this.#bodies.get(id) ?? this.#addUnnamed(id);
    if (body.hasEnded) throw new Violation(`the body ${id} has ended`);
    if (offset !== BigInt(body.received)) {
      throw new Violation(`the next chunk of the body ${id} begins at ${body.received} and not at ${offset}`);
    }
    if (body.received + data.length > body.allowed) throw new Violation(`more of the body ${id} came than was allowed`);
    body.received += data.length;
    body.hasEnded = last;
    if (last) this.#begun.delete(body);
    else if (!body.isDropping) this.#begun.add(body);
    if (this.#begun.size > 2 * this.options.bodies) throw new Violation('too many bodies are sent side by side');
    if (body.isDropping) {
      if (last && body.arrival === undefined) this.#bodies.delete(id);
    } else if (aborted) {
      body.sink.discard();
      this.#tell(id, body, { kind: 'broken', reason: 'the worker could not read the body to its end' });
    } else {
      check(id, body);
      if (data.length > 0) body.sink.add(data, isGathered(body) ? body.size : undefined);
      if (last) this.#finish(id, body);
      else if (!isGathered(body) && body.sink.size > INLINE_LIMIT) this.#flush(id, body);
    }
  }

  /** A body is not wanted any more: nothing is told of it, and what was written goes. Throws a Violation. */
  stop(id: number): void {
    const body = this.#bodies.get(id) ?? this.#add(id);
    body.arrived = body.arrival = undefined;
    this.#drop(id, body);
  }

  /** Discards all: nothing is told of any of them. */
  close(): void {
    for (const body of this.#bodies.values()) {
      body.arrived = undefined;
      body.sink.discard();
    }
    this.#bodies.clear();
    this.#begun.clear();
    this.#unnamed.clear();
  }

  #addUnnamed(id: number): Incoming {
    const body = this.#add(id);
    this.#unnamed.add(body);
    this.#weigh();
    return body;
  }

  #add(id: number): Incoming {
    if (this.#bodies.size >= MOST_BODIES) throw new Violation('too many bodies are on their way');
    const body: Incoming = {
      sink: new BodySink(this.options.files),
      size: undefined,
      received: 0,
      allowed: FIRST_WINDOW,
      owed: 0,
      hasEnded: false,
      isDropping: false,
      arrival: undefined,
      arrived: undefined,
    };
    this.#bodies.set(id, body);
    return body;
  }

  #flush(id: number, body: Incoming): void {
    const bytes = body.sink.held;
    this.#under(bytes, body.sink.flush()).then(
      () => this.#credit(id, body, bytes),
      (error: unknown) => this.#cannotWrite(id, body, error),
    );
  }

  #finish(id: number, body: Incoming): void {
    this.#under(body.sink.held, body.sink.finish()).then(
      (content) => this.#tell(id, body, { kind: 'whole', content }),
      (error: unknown) => this.#cannotWrite(id, body, error),
    );
  }

  /** Counts a write as long as it is under way. */
  async #under<T>(bytes: number, write: Promise<T>): Promise<T> {
    this.#unwritten += bytes;
    this.#writes += 1;
    this.#weigh();
    try {
      return await write;
    } finally {
      this.#unwritten -= bytes;
      this.#writes -= 1;
      this.#weigh();
    }
  }

  #weigh(): void {
    const isHigh = this.#unwritten > MOST_UNWRITTEN || this.#writes > MOST_WRITES || this.#unnamed.size > MOST_UNNAMED;
    if (isHigh === this.#isHigh) return;
    this.#isHigh = isHigh;
    this.options.onPressure(isHigh);
  }

  #cannotWrite(id: number, body: Incoming, error: unknown): void {
    // The other writes of it fail behind the first.
    if (body.isDropping || body.arrival !== undefined || this.#bodies.get(id) !== body) return;
    const { arrived } = body;
    const arrival: Arrival = { kind: 'broken', reason: `the agent could not write it: ${errorText(error)}` };
    // Kept for the result that names it.
    if (arrived === undefined) body.arrival = arrival;
    this.#drop(id, body);
    arrived?.(arrival);
  }

  /** Lets as much more come as was used. */
  #credit(id: number, body: Incoming, bytes: number): void {
    if (body.isDropping || body.hasEnded || bytes === 0) return;
    if (body.size === undefined) {
      body.owed += bytes;
      return;
    }
    // What may come already is all of it.
    if (body.allowed >= body.size) return;
    body.allowed += bytes;
    this.options.credit({ id, bytes: BigInt(bytes), stop: false });
  }

  /** What became of it, to whoever waits for that, or will. */
  #tell(id: number, body: Incoming, arrival: Arrival): void {
    if (this.#bodies.get(id) !== body) {
      body.sink.discard();
      return;
    }
    const { arrived } = body;
    if (arrived === undefined) {
      body.arrival = arrival;
      return;
    }
    // Of one that is being dropped more is to come.
    body.arrival = undefined;
    if (body.hasEnded) this.#bodies.delete(id);
    arrived(arrival);
  }

  /** Takes no more of a body; one whose result must still be told what became of it stays known until then. */
  #drop(id: number, body: Incoming): void {
    body.sink.discard();
    this.#begun.delete(body);
    if (body.arrival === undefined) {
      this.#unnamed.delete(body);
      if (body.hasEnded) this.#bodies.delete(id);
    }
    this.#weigh();
    if (body.hasEnded || body.isDropping) return;
    body.isDropping = true;
    this.options.credit({ id, bytes: 0n, stop: true });
  }
}

/**
 * Whether all of it waits for one write: that of a short body, whose sender waits for no credit. As many as may be sent
 * side by side hold so much at most.
 */
function isGathered({ size }: Incoming): boolean {
  return size !== undefined && size <= FIRST_WINDOW;
}

/** Holds what came against the size that was named. */
function check(id: number, { size, received, hasEnded }: Incoming): void {
  if (size === undefined) return;
  if (received > size) throw new Violation(`the body ${id} has more than the ${size} bytes that were named`);
  if (hasEnded && received < size) throw new Violation(`the body ${id} ended after ${received} of ${size} bytes`);
}
