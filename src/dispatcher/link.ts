/**
 * The one persistent channel to one incarnation of a worker. It connects, and connects again, by itself; a call is
 * made only while it is connected, so that an error without a status means that the connection broke under the call.
 */
import type { Socket } from 'node:net';
import {
  ChannelCredentials,
  connectivityState,
  Metadata,
  status,
  type ClientOptions,
  type ServiceError,
} from '@grpc/grpc-js';
import { HealthCheckResponse_ServingStatus, HealthClient } from '../../protocol/generated/health.js';
import { WorkerClient, type Event } from '../../protocol/generated/yggdrasil.js';
import type { Clock, Millis } from '../time.js';
import type { InboundRecord } from '../message/record.js';
import { dataFromRecord, isSurelyBelow, wireSize } from './codec.js';
import type { Answer, Cancel, Health, Link, Report, Room } from './link-port.js';

/** A worker that was just started listens within milliseconds: the usual second of back-off would be most of the wait. */
const RECONNECT: ClientOptions = {
  'grpc.initial_reconnect_backoff_ms': 50,
  'grpc.max_reconnect_backoff_ms': 1000,
};

const LONGEST_IDLE = 2 ** 31 - 1;

export interface LinkOptions {
  /** The path the worker listens on, or will. */
  readonly path: string;
  readonly maxReceive: number;
  /** Bytes of the largest message the worker takes, asked for each. */
  readonly maxSend: () => number;
  readonly clock: Clock;
  /** Whether to speak to whoever listens there: a worker can put a link to another's socket in the place of its own. */
  readonly admits: (socket: Socket) => boolean;
  /** Called at each connect. */
  readonly onReady: () => void;
}

/** No encryption, as on any Unix socket; but each connection is looked at before a byte goes out. */
class CheckedPlain extends ChannelCredentials {
  readonly #plain = ChannelCredentials.createInsecure();

  constructor(private readonly admits: (socket: Socket) => boolean) {
    super();
  }

  override _isSecure(): boolean {
    return false;
  }

  override _equals(other: ChannelCredentials): boolean {
    return other === this;
  }

  override _createSecureConnector(
    ...given: Parameters<ChannelCredentials['_createSecureConnector']>
  ): ReturnType<ChannelCredentials['_createSecureConnector']> {
    const connector = this.#plain._createSecureConnector(...given);
    return {
      waitForReady: () => connector.waitForReady(),
      getCallCredentials: () => connector.getCallCredentials(),
      destroy: () => connector.destroy(),
      connect: (socket) =>
        this.admits(socket) ? connector.connect(socket) : Promise.reject(new Error('another process listens there')),
    };
  }
}

export class WorkerLink implements Link {
  readonly transport = 'unary';
  /** A call for each: how many at once is the queue's affair. */
  readonly hasRoom = true;
  readonly takesFiles = false;
  #client: WorkerClient | undefined;
  #health: HealthClient | undefined;
  /** An old worker that knows no NotifyEvent is not asked twice. */
  #takesEvents = true;

  constructor(private readonly options: LinkOptions) {}

  /** Begins to connect. */
  open(): void {
    const secrets = new CheckedPlain(this.options.admits);
    const client = new WorkerClient(`unix:${this.options.path}`, secrets, {
      ...RECONNECT,
      'grpc.max_receive_message_length': this.options.maxReceive,
      'grpc.max_send_message_length': -1,
      'grpc.client_idle_timeout_ms': LONGEST_IDLE,
      // A pool shared between channels would keep the back-off of the incarnation before.
      'grpc.use_local_subchannel_pool': 1,
      // A call that gRPC repeats by itself would run twice without our knowing.
      'grpc.enable_retries': 0,
      'grpc.enable_http_proxy': 0,
      'grpc.enable_channelz': 0,
      'grpc.service_config_disable_resolution': 1,
    });
    this.#client = client;
    this.#health = new HealthClient('', secrets, { channelOverride: client.getChannel() });
    this.#watch(client);
  }

  get isReady(): boolean {
    return this.#client?.getChannel().getConnectivityState(false) === connectivityState.READY;
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

  send(record: InboundRecord, content: Buffer, done: (report: Report) => void): Cancel {
    const client = this.#client;
    if (client === undefined) {
      done({ kind: 'status', code: status.UNAVAILABLE, details: 'the link is closed', isConnected: false });
      return () => undefined;
    }
    const call = client.send(dataFromRecord(record, content), (error, response) => {
      done(error === null ? { kind: 'receipt', response: response.response } : this.#statusOf(error));
    });
    return () => call.cancel();
  }

  check(timeout: Millis): Promise<Health> {
    const health = this.#health;
    if (health === undefined || !this.isReady) return Promise.resolve('unknown');
    return new Promise((resolve) => {
      const answered = new AbortController();
      const call = health.check({ service: '' }, (error, response) => {
        answered.abort();
        resolve(error === null ? healthFrom(response.status) : healthFromError(error));
      });
      const giveUp = (): void => {
        resolve('silence');
        call.cancel();
      };
      this.options.clock.after(timeout, giveUp, answered.signal);
    });
  }

  notify(event: Event, timeout: Millis): Promise<boolean> {
    const client = this.#client;
    if (client === undefined || !this.isReady || !this.#takesEvents) return Promise.resolve(false);
    return new Promise((resolve) => {
      const answered = new AbortController();
      const call = client.notifyEvent({ name: event, detail: '', metadata: {} }, new Metadata(), (error) => {
        answered.abort();
        if (error?.code === status.UNIMPLEMENTED) this.#takesEvents = false;
        resolve(error === null);
      });
      this.options.clock.after(timeout, () => call.cancel(), answered.signal);
    });
  }

  /** A unary worker has no way to be told. */
  giveUp(): boolean {
    return false;
  }

  /** Ends the channel and every call on it. */
  close(): void {
    const client = this.#client;
    this.#client = undefined;
    this.#health = undefined;
    client?.close();
  }

  #watch(client: WorkerClient): void {
    if (this.#client !== client) return;
    const channel = client.getChannel();
    const state = channel.getConnectivityState(true);
    channel.watchConnectivityState(state, Infinity, () => this.#watch(client));
    if (state === connectivityState.READY) this.options.onReady();
  }

  #statusOf(error: ServiceError): Answer {
    return { kind: 'status', code: error.code, details: error.details, isConnected: this.isReady };
  }
}

function healthFrom(serving: HealthCheckResponse_ServingStatus): Health {
  if (serving === HealthCheckResponse_ServingStatus.SERVING) return 'serving';
  return serving === HealthCheckResponse_ServingStatus.NOT_SERVING ? 'not-serving' : 'unknown';
}

function healthFromError(error: ServiceError): Health {
  // NOT_FOUND: it serves the service but knows nothing of the server as a whole.
  return error.code === status.UNIMPLEMENTED || error.code === status.NOT_FOUND ? 'unimplemented' : 'unknown';
}
