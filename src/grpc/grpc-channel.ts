/**
 * A connection to a Unix socket for calls of gRPC, over Node's HTTP/2. It connects, and connects again, by itself;
 * a connection that was told to go away is used for nothing new. No compression, no retries, no deadline on the wire:
 * whoever waits too long is told here.
 */
import { connect as connectHttp2, type ClientHttp2Session } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { status } from '@grpc/grpc-js';
import { SlotTable } from '../signal/slot-table.js';
import type { Millis, Random } from '../time.js';
import { DROPPED, type CallStatus } from './status.js';
import { StreamCall, type StreamHandlers } from './stream-call.js';
import { UnaryCall, type Ended, type Method, type Startable } from './unary-call.js';

/** A side that was just started listens within milliseconds: the usual second of back-off would be most of the wait. */
const FIRST_BACKOFF: Millis = 50;
const LONGEST_BACKOFF: Millis = 1000;
/** Nobody who is well takes this long to say the first word; grpc-js waits as long. */
const GREETED_WITHIN: Millis = 20_000;
/** A connection that does not last this long is a brief one: after one of them it connects at once, after more it waits. */
const BRIEF: Millis = LONGEST_BACKOFF;
/** HTTP/2 has 2^30 numbers for the streams of a client, and what Node does without one looks like a fault of the call. */
const CALLS_EACH = 2 ** 29;
/** How often calls are looked at that have a time to end in. */
const LOOK_EACH: Millis = 500;

export interface GrpcChannelOptions {
  /** The path the other side listens on, or will. */
  readonly path: string;
  /** Bytes of the largest answer. */
  readonly maxReceive: number;
  readonly random: Random;
  /** How long each call may take, to half a second; undefined: for ever. */
  readonly within?: Millis;
  /** How long a connection may take until it is ready. */
  readonly greetedWithin?: Millis;
  /** Calls on one connection, which it then leaves for another. */
  readonly callsEach?: number;
  /** True: it connects again as soon as it can; else when it is called. */
  readonly staysConnected: boolean;
  /** Whether to speak to whoever listens there. Default: yes. */
  readonly admits?: (socket: Socket) => boolean;
  /** Called at each connect. */
  readonly onReady?: () => void;
}

/** A call that has a time to end in. */
interface Timed {
  readonly number: number;
  readonly call: UnaryCall;
  readonly endsAt: Millis;
}

export class GrpcChannel {
  #state: 'idle' | 'connecting' | 'ready' | 'backing-off' | 'closed' = 'idle';
  #socket: Socket | undefined;
  #session: ClientHttp2Session | undefined;
  #backoff: NodeJS.Timeout | undefined;
  /** Ends an attempt to connect that nobody answers. */
  #mute: NodeJS.Timeout | undefined;
  #failures = 0;
  /** Connections in a row that were brief. */
  #briefOnes = 0;
  /** Of the present connection. */
  #readyAt: Millis = 0;
  #callsLeft = 0;
  /** Why the last attempt to connect came to nothing. */
  #problem = unreachable('nobody was there');
  /** Calls that go out when it is connected. */
  #waiting: Startable[] = [];
  readonly #timed = new SlotTable<Timed>();
  #lastNumber = 0;
  /** Whether calls are about to be looked at. */
  #isLooking = false;

  constructor(private readonly options: GrpcChannelOptions) {}

  get isReady(): boolean {
    return this.#state === 'ready';
  }

  /** Begins to connect, if it does not yet. */
  open(): void {
    if (this.#state === 'idle') this.#connect();
  }

  /**
   * Calls `method` with a message in its frame (frame.ts). `ended` is called once, in a later turn, unless the call that
   * this gives is cancelled.
   */
  call(method: Method, frame: Buffer, ended: Ended): UnaryCall {
    const { maxReceive, within } = this.options;
    const call =
      within === undefined
        ? new UnaryCall(maxReceive, method, frame, ended)
        : this.#timedCall(within, method, frame, ended);
    this.#begin(call);
    return call;
  }

  /** Begins a call of many messages each way, however long it takes. What is written before it has begun waits. */
  stream(method: Method, handlers: StreamHandlers): StreamCall {
    const call = new StreamCall(this.options.maxReceive, method, handlers);
    this.#begin(call);
    return call;
  }

  /** Takes no more calls; those under way come to their ends by themselves. Idempotent. */
  close(): void {
    this.#state = 'closed';
    clearTimeout(this.#backoff);
    clearTimeout(this.#mute);
    const session = this.#session;
    this.#session = undefined;
    if (session === undefined) this.#socket?.destroy();
    else session.close();
    this.#socket = undefined;
    this.#giveUp(CLOSED);
  }

  #begin(call: Startable): void {
    if (this.#session !== undefined) this.#startOn(this.#session, call);
    else if (this.#state === 'closed') failLater(call, CLOSED);
    else if (this.#state === 'backing-off') failLater(call, this.#problem);
    else {
      this.#waiting.push(call);
      this.open();
    }
  }

  #startOn(session: ClientHttp2Session, call: Startable): void {
    start(session, call);
    this.#callsLeft -= 1;
    if (this.#callsLeft > 0) return;
    // When what was called is on its way, since a farewell overtakes it; then its calls come to their ends.
    setImmediate(() => session.close());
    this.#left();
    this.#again();
  }

  #timedCall(within: Millis, method: Method, frame: Buffer, ended: Ended): UnaryCall {
    this.#lastNumber += 1;
    const number = this.#lastNumber;
    const call = new UnaryCall(this.options.maxReceive, method, frame, (failure, answer) => {
      this.#timed.delete(number);
      ended(failure, answer);
    });
    this.#timed.add(number, { number, call, endsAt: performance.now() + within });
    this.#lookLater();
    return call;
  }

  /** One timer for all: one for each call cost more than it is worth. */
  #lookLater(): void {
    if (this.#isLooking) return;
    this.#isLooking = true;
    setTimeout(() => {
      this.#isLooking = false;
      const now = performance.now();
      for (const { number, call, endsAt } of this.#timed.values()) {
        if (call.isOver) this.#timed.delete(number);
        else if (endsAt <= now) call.fail(LATE);
      }
      if (this.#timed.size > 0) this.#lookLater();
    }, LOOK_EACH).unref();
  }

  #connect(): void {
    const { path, admits = (): boolean => true, greetedWithin = GREETED_WITHIN } = this.options;
    this.#state = 'connecting';
    const socket = connect({ path });
    this.#socket = socket;
    // A session that is over waits for the other side to hang up, which it need not do: nothing more comes of it.
    socket.once('finish', () => socket.destroy());
    this.#mute = setTimeout(() => socket.destroy(new Error('it does not speak HTTP/2')), greetedWithin).unref();
    socket.once('close', () => this.#lost(socket));
    // 'close' follows.
    socket.on('error', (error) => (this.#problem = unreachable(error.message)));
    socket.once('connect', () => {
      if (admits(socket)) this.#greet(socket);
      else socket.destroy(new Error('another process listens there'));
    });
  }

  /** Ready when the other side has said what it takes: until then Node would hold back all but a hundred streams. */
  #greet(socket: Socket): void {
    const session = connectHttp2('http://localhost', {
      createConnection: () => socket,
      settings: { enablePush: false },
      // What is in flight is bounded by who calls, and Node's own bound ends the session.
      maxSessionMemory: Number.MAX_SAFE_INTEGER,
    });
    session.unref();
    session.on('error', ignored);
    session.once('goaway', () => this.#lost(socket));
    session.once('close', () => this.#lost(socket));
    session.once('remoteSettings', () => this.#ready(socket, session));
  }

  #ready(socket: Socket, session: ClientHttp2Session): void {
    if (this.#socket !== socket) {
      session.close();
      return;
    }
    clearTimeout(this.#mute);
    this.#state = 'ready';
    this.#session = session;
    this.#readyAt = performance.now();
    this.#failures = this.#briefOnes;
    this.#callsLeft = this.options.callsEach ?? CALLS_EACH;
    for (const call of this.#waiting.splice(0)) this.#begin(call);
    this.options.onReady?.();
  }

  /** This connection takes nothing new. */
  #lost(socket: Socket): void {
    if (this.#socket !== socket) return;
    const wasReady = this.#state === 'ready';
    this.#left();
    if (wasReady) {
      const isBrief = performance.now() - this.#readyAt < BRIEF;
      this.#briefOnes = isBrief ? this.#briefOnes + 1 : 0;
      // More than one: somebody who greets each connection and ends it would be connected to without a pause.
      if (this.#briefOnes <= 1) this.#again();
      else this.#backOff();
    } else this.#backOff();
  }

  /** The present connection is none any more. */
  #left(): void {
    clearTimeout(this.#mute);
    this.#socket = undefined;
    this.#session = undefined;
  }

  #again(): void {
    this.#state = 'idle';
    if (this.options.staysConnected) this.#connect();
  }

  #backOff(): void {
    this.#state = 'backing-off';
    this.#giveUp(this.#problem);
    const longest = Math.min(LONGEST_BACKOFF, FIRST_BACKOFF * 1.6 ** Math.min(this.#failures, 30));
    this.#failures += 1;
    this.#backoff = setTimeout(() => this.#again(), longest * (0.8 + 0.4 * this.options.random())).unref();
  }

  #giveUp(failure: CallStatus): void {
    for (const call of this.#waiting.splice(0)) failLater(call, failure);
  }
}

const CLOSED: CallStatus = { code: status.UNAVAILABLE, details: 'the channel was closed' };
const LATE: CallStatus = { code: status.DEADLINE_EXCEEDED, details: 'Deadline exceeded' };

function unreachable(reason: string): CallStatus {
  return { code: status.UNAVAILABLE, details: `No connection established: ${reason}` };
}

const ignored = (): void => undefined;

function start(session: ClientHttp2Session, call: Startable): void {
  if (call.isOver) return;
  try {
    call.start(session);
  } catch {
    // It went, or was told to go, and its events have not come yet.
    failLater(call, DROPPED);
  }
}

function failLater(call: Startable, failure: CallStatus): void {
  setImmediate(() => call.fail(failure));
}
