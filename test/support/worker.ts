/**
 * A worker inside the test's process: it registers on a dispatcher's socket, serves Worker.Send with a handler that the
 * test can change, and sends results. Everything goes over the wire as a worker built for the original would do it.
 */
import {
  credentials,
  Server,
  ServerCredentials,
  status,
  type ServiceError,
  type StatusObject,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { HealthService, type HealthCheckResponse_ServingStatus } from '../../protocol/generated/health.js';
import {
  DispatcherClient,
  WorkerService,
  type Config,
  type Data,
  type Event,
  type RegistrationRequest,
  type RegistrationResponse,
} from '../../protocol/generated/yggdrasil.js';
import { Signal } from '../../src/signal/index.js';

/** Returns to give a receipt; throws a WorkerStatus to answer with an error. */
export type WorkerHandler = (data: Data) => Promise<void> | void;

/** An error answer of a worker. */
export class WorkerStatus extends Error {
  constructor(
    readonly code: status,
    message = 'as the test wants it',
  ) {
    super(message);
  }
}

export interface TestWorkerOptions {
  /** `unix:<path>`, as in YGG_SOCKET_ADDR. */
  readonly address: string;
  readonly handler?: WorkerHandler;
  /** Whether it serves NotifyEvent and grpc.health.v1, as workers of the newer generation do. */
  readonly takesEvents?: boolean;
  readonly health?: () => HealthCheckResponse_ServingStatus | 'silent';
  readonly maxReceive?: number;
}

export class TestWorker implements AsyncDisposable {
  /** Messages in the order their calls came. */
  readonly received: Data[] = [];
  readonly receives = new Signal<Data>('receives');
  readonly events: Event[] = [];
  readonly notified = new Signal<Event>('notified');
  readonly checked = new Signal<void>('checked');
  /** The most calls that were open at once. */
  mostOpen = 0;
  handler: WorkerHandler;
  readonly #client: DispatcherClient;
  #server: Server | undefined;
  #open = 0;

  constructor(private readonly options: TestWorkerOptions) {
    this.handler = options.handler ?? ((): void => undefined);
    this.#client = new DispatcherClient(options.address, credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
      'grpc.initial_reconnect_backoff_ms': 50,
    });
  }

  /** Registers and then listens: the order of the original's workers. */
  async join(handler: string, request: Partial<RegistrationRequest> = {}): Promise<RegistrationResponse> {
    const response = await this.register(handler, request);
    if (response.registered && this.#server === undefined) await this.listen(response.address);
    return response;
  }

  register(handler: string, request: Partial<RegistrationRequest> = {}): Promise<RegistrationResponse> {
    return new Promise((resolve, reject) => {
      this.#client.register(
        { handler, pid: 4711n, detachedContent: false, features: {}, ...request },
        settle(resolve, reject),
      );
    });
  }

  /** Hands a result to the agent; rejects with gRPC's status. */
  send(data: Partial<Data>): Promise<unknown> {
    const { messageId = '', metadata = {}, content = Buffer.alloc(0), responseTo = '', directive = 'echo' } = data;
    return new Promise((resolve, reject) => {
      this.#client.send({ messageId, metadata, content, responseTo, directive }, settle(resolve, reject));
    });
  }

  config(): Promise<Config> {
    return new Promise((resolve, reject) => this.#client.getConfig({}, settle(resolve, reject)));
  }

  async listen(path: string): Promise<void> {
    const server = new Server({ 'grpc.max_receive_message_length': this.options.maxReceive ?? 4 * 1024 * 1024 });
    const services: UntypedServiceImplementation = {
      send: (call: { request: Data }, callback: (error: Partial<StatusObject> | null, value?: unknown) => void) => {
        this.#take(call.request).then(
          () => callback(null, { response: Buffer.alloc(0) }),
          (error: unknown) =>
            callback({
              code: error instanceof WorkerStatus ? error.code : status.UNKNOWN,
              details: error instanceof Error ? error.message : String(error),
            }),
        );
      },
    };
    if (this.options.takesEvents === true) {
      services['notifyEvent'] = (
        call: { request: { name: Event } },
        callback: (error: null, value: unknown) => void,
      ) => {
        this.events.push(call.request.name);
        callback(null, {});
        this.notified.emit(call.request.name);
      };
    }
    server.addService(WorkerService, services);
    const { health } = this.options;
    if (health !== undefined) {
      server.addService(HealthService, {
        check: (_call: unknown, callback: (error: null, value: unknown) => void) => {
          const answer = health();
          if (answer !== 'silent') callback(null, { status: answer });
          this.checked.emit();
        },
      });
    }
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) =>
        error === null ? resolve() : reject(error),
      );
    });
    this.#server = server;
  }

  /** Breaks all connections and stops to listen, as the death of a process does. */
  die(): void {
    this.#server?.forceShutdown();
    this.#server = undefined;
  }

  /** Resolves when `count` messages have come in all. */
  async got(count: number): Promise<readonly Data[]> {
    while (this.received.length < count) await this.receives.next(new AbortController().signal);
    return this.received;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.die();
    this.#client.close();
    return Promise.resolve();
  }

  async #take(data: Data): Promise<void> {
    this.#open += 1;
    this.mostOpen = Math.max(this.mostOpen, this.#open);
    this.received.push(data);
    this.receives.emit(data);
    try {
      await this.handler(data);
    } finally {
      this.#open -= 1;
    }
  }
}

function settle<T>(
  resolve: (value: T) => void,
  reject: (error: Error) => void,
): (error: ServiceError | null, value: T) => void {
  return (error, value) => {
    if (error === null) resolve(value);
    else reject(error);
  };
}
