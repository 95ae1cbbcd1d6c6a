/**
 * The one persistent channel to one incarnation of a worker. It connects, and connects again, by itself; a call is
 * made only while it is connected, so that an error without a status means that the connection broke under the call.
 */
import type { Socket } from 'node:net';
import { status } from '@grpc/grpc-js';
import {
  HealthCheckRequest,
  HealthCheckResponse,
  HealthCheckResponse_ServingStatus,
  HealthService,
} from '../../protocol/generated/health.js';
import { EventNotification, Response, WorkerService, type Event } from '../../protocol/generated/yggdrasil.js';
import { DROPPED, framed, methodAt, GrpcChannel, type CallStatus } from '../grpc/index.js';
import type { InboundRecord } from '../message/record.js';
import type { Clock, Millis, Random } from '../time.js';
import { isSurelyBelow, sendFrame, wireSize } from './codec.js';
import type { Answer, Call, Cancel, Health, Link, Room } from './link-port.js';

const SEND = methodAt(WorkerService.send.path);
const NOTIFY = methodAt(WorkerService.notifyEvent.path);
const CHECK = methodAt(HealthService.check.path);

export interface LinkOptions {
  /** The path the worker listens on, or will. */
  readonly path: string;
  readonly maxReceive: number;
  /** Bytes of the largest message the worker takes, asked for each. */
  readonly maxSend: () => number;
  readonly clock: Clock;
  readonly random: Random;
  /** Whether to speak to whoever listens there: a worker can put a link to another's socket in the place of its own. */
  readonly admits: (socket: Socket) => boolean;
  /** Called at each connect. */
  readonly onReady: () => void;
}

export class WorkerLink implements Link {
  readonly transport = 'unary';
  /** A call for each: how many at once is the queue's affair. */
  readonly hasRoom = true;
  readonly takesFiles = false;
  #channel: GrpcChannel | undefined;
  /** An old worker that knows no NotifyEvent is not asked twice. */
  #takesEvents = true;

  constructor(private readonly options: LinkOptions) {}

  /** Begins to connect. */
  open(): void {
    const { path, maxReceive, random, admits, onReady } = this.options;
    this.#channel = new GrpcChannel({ path, maxReceive, random, admits, onReady, staysConnected: true });
    this.#channel.open();
  }

  get isReady(): boolean {
    return this.#channel?.isReady === true;
  }

  problemWith(record: InboundRecord): string | undefined {
    const largest = this.options.maxSend();
    if (isSurelyBelow(record, largest)) return undefined;
    const size = wireSize(record);
    if (size <= largest) return undefined;
    return `the message has ${size} bytes and the worker of ${record.directive} takes ${largest}`;
  }

  asksSoon(): boolean {
    return false;
  }

  roomFor(): Room {
    return 'here';
  }

  send(call: Call, content: Buffer): Cancel | undefined {
    const channel = this.#channel;
    if (channel === undefined) {
      call.report({ kind: 'status', code: status.UNAVAILABLE, details: 'the link is closed', isConnected: false });
      return undefined;
    }
    const sent = channel.call(SEND, sendFrame(call.record, content), (failure, answer) => {
      call.report(failure === undefined ? receiptFrom(answer) : this.#statusOf(failure));
    });
    return () => sent.cancel();
  }

  check(timeout: Millis): Promise<Health> {
    const channel = this.#channel;
    if (channel?.isReady !== true) return Promise.resolve('unknown');
    return new Promise((resolve) => {
      const answered = new AbortController();
      const request = framed(HealthCheckRequest.encode({ service: '' }).finish());
      const call = channel.call(CHECK, request, (failure, answer) => {
        answered.abort();
        resolve(failure === undefined ? healthFrom(answer) : healthFromFailure(failure));
      });
      const giveUp = (): void => {
        resolve('silence');
        call.cancel();
      };
      this.options.clock.after(timeout, giveUp, answered.signal);
    });
  }

  notify(event: Event, timeout: Millis): Promise<boolean> {
    const channel = this.#channel;
    if (channel?.isReady !== true || !this.#takesEvents) return Promise.resolve(false);
    return new Promise((resolve) => {
      const answered = new AbortController();
      const request = framed(EventNotification.encode({ name: event, detail: '', metadata: {} }).finish());
      const call = channel.call(NOTIFY, request, (failure) => {
        answered.abort();
        if (failure?.code === status.UNIMPLEMENTED) this.#takesEvents = false;
        resolve(failure === undefined);
      });
      const giveUp = (): void => {
        resolve(false);
        call.cancel();
      };
      this.options.clock.after(timeout, giveUp, answered.signal);
    });
  }

  /** A unary worker has no way to be told. */
  giveUp(): boolean {
    return false;
  }

  /** Nothing more is called; who still answers is heard. */
  close(): void {
    const channel = this.#channel;
    this.#channel = undefined;
    channel?.close();
  }

  #statusOf(failure: CallStatus): Answer {
    const { code, details } = failure;
    // A connection that was told to go away may break when there is another one already.
    return { kind: 'status', code, details, isConnected: failure !== DROPPED && this.isReady };
  }
}

const NO_BYTES = Buffer.alloc(0);

/** Nearly all say nothing with it. */
const RECEIPT: Answer = { kind: 'receipt', response: NO_BYTES };

function receiptFrom(answer: Buffer): Answer {
  if (answer.length === 0) return RECEIPT;
  try {
    return { kind: 'receipt', response: Response.decode(answer).response };
  } catch {
    return { kind: 'status', code: status.INTERNAL, details: 'its answer is no Response', isConnected: true };
  }
}

function healthFrom(answer: Buffer): Health {
  try {
    return healthOf(HealthCheckResponse.decode(answer).status);
  } catch {
    // Nothing that could be told from silence, but somebody spoke.
    return 'unknown';
  }
}

function healthOf(serving: HealthCheckResponse_ServingStatus): Health {
  if (serving === HealthCheckResponse_ServingStatus.SERVING) return 'serving';
  return serving === HealthCheckResponse_ServingStatus.NOT_SERVING ? 'not-serving' : 'unknown';
}

function healthFromFailure({ code }: CallStatus): Health {
  // NOT_FOUND: it serves the service but knows nothing of the server as a whole.
  return code === status.UNIMPLEMENTED || code === status.NOT_FOUND ? 'unimplemented' : 'unknown';
}
