/**
 * The agent as a worker sees it: a Dispatcher service on a Unix socket and a client of the worker's own. It records
 * what it got, answers as a test says, and can die and come back at the same address.
 */
import { join } from 'node:path';
import {
  type Client,
  type ClientOptions,
  credentials,
  Metadata,
  Server,
  ServerCredentials,
  type ServiceError,
  type ServerUnaryCall,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import { HealthClient, type HealthCheckResponse } from '../../protocol/generated/health.js';
import {
  type Data,
  DispatcherService,
  type EventNotification,
  type RegistrationRequest,
  type RegistrationResponse,
  type Response,
  WorkerClient,
} from '../../protocol/generated/yggdrasil.js';
import { Signal } from '../../src/signal/index.js';

/** What the agent answers to a reply: takes it, or an error. */
export type SendAnswer = { readonly code: status; readonly details: string } | undefined;

export interface FakeAgent extends AsyncDisposable {
  /** For YGG_SOCKET_ADDR. */
  readonly address: string;
  /** Where the worker is told to listen; may be set before a registration. */
  workerPath: string;
  readonly registrations: RegistrationRequest[];
  /** Replies that were accepted. */
  readonly replies: Data[];
  readonly registered: Signal<RegistrationRequest>;
  readonly replied: Signal<Data>;
  /** Decide about a registration or a reply; the defaults take all. */
  onRegister: (request: RegistrationRequest) => RegistrationResponse;
  onSend: (data: Data) => SendAnswer | Promise<SendAnswer>;
  start(): Promise<void>;
  /** Dies: every connection is cut. */
  stop(): void;
  /** Resolves with the registration number `count`, counted from 1. */
  registration(count: number): Promise<RegistrationRequest>;
  /** Sends to the worker; resolves with its receipt, rejects with the gRPC error. */
  send(data: Partial<Data>): Promise<Response>;
  notify(event: EventNotification): Promise<void>;
  health(service?: string): Promise<HealthCheckResponse>;
  healthClient(): HealthClient;
}

export async function startFakeAgent(dir: string): Promise<FakeAgent> {
  const scope = new AbortController();
  const path = join(dir, 'd.sock');
  let server: Server | undefined;
  // One client of each kind for a worker's path, on one channel, so that calls keep their order; new ones after a restart.
  const clients = new Map<string, Client>();
  const clientOf = <T extends Client>(Kind: new (address: string, ...rest: ClientArguments) => T): T => {
    const key = `${Kind.name} ${agent.workerPath}`;
    const known = clients.get(key);
    if (known instanceof Kind) return known;
    const shared = [...clients].find(([name]) => name.endsWith(` ${agent.workerPath}`))?.[1].getChannel();
    const options = shared === undefined ? clientOptions : { ...clientOptions, channelOverride: shared };
    const client = new Kind(`unix:${agent.workerPath}`, credentials.createInsecure(), options);
    clients.set(key, client);
    return client;
  };

  // Closing a client lets its calls go on, but a death cuts them.
  const underWay = new Set<{ cancel(): void }>();
  const call = <T>(start: (done: (error: ServiceError | null, answer: T) => void) => { cancel(): void }): Promise<T> =>
    new Promise((resolve, reject) => {
      const started = start((error, answer) => {
        underWay.delete(started);
        if (error === null) resolve(answer);
        else reject(error);
      });
      underWay.add(started);
    });

  const agent: FakeAgent = {
    address: `unix:${path}`,
    workerPath: join(dir, 'w.sock'),
    registrations: [],
    replies: [],
    registered: new Signal('registered'),
    replied: new Signal('replied'),
    onRegister: () => ({ registered: true, address: agent.workerPath }),
    onSend: () => undefined,
    start: async () => {
      server = new Server({ 'grpc.max_receive_message_length': -1 });
      server.addService(DispatcherService, {
        register: (
          call: ServerUnaryCall<RegistrationRequest, RegistrationResponse>,
          done: Done<RegistrationResponse>,
        ) => {
          agent.registrations.push(call.request);
          done(null, agent.onRegister(call.request));
          agent.registered.emit(call.request);
        },
        send: (call: ServerUnaryCall<Data, Response>, done: Done<Response>) => {
          void Promise.resolve(agent.onSend(call.request)).then((answer) => {
            if (answer !== undefined) {
              done(answer);
              return;
            }
            agent.replies.push(call.request);
            done(null, { response: Buffer.alloc(0) });
            agent.replied.emit(call.request);
          });
        },
        getConfig: (_call: unknown, done: Done<never>) => done({ code: status.UNIMPLEMENTED, details: 'not needed' }),
      });
      await new Promise<void>((resolve, reject) => {
        server?.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) => {
          if (error === null) resolve();
          else reject(error);
        });
      });
    },
    stop: () => {
      for (const started of underWay) started.cancel();
      for (const client of clients.values()) client.close();
      clients.clear();
      server?.forceShutdown();
      server = undefined;
    },
    registration: async (count) => {
      while (agent.registrations.length < count) await agent.registered.next(scope.signal);
      return agent.registrations[count - 1]!;
    },
    send: (data) => {
      const whole: Data = {
        messageId: '9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d',
        directive: 'echo',
        metadata: {},
        responseTo: '',
        content: Buffer.from('"hello"'),
        ...data,
      };
      // A worker registers before it listens: refused just after Register means wait.
      return call((done) => clientOf(WorkerClient).send(whole, new Metadata({ waitForReady: true }), done));
    },
    notify: async (event) => {
      await call((done) => clientOf(WorkerClient).notifyEvent(event, new Metadata({ waitForReady: true }), done));
    },
    health: (service = '') =>
      call((done) => clientOf(HealthClient).check({ service }, new Metadata({ waitForReady: true }), done)),
    healthClient: () => clientOf(HealthClient),
    [Symbol.asyncDispose]: () => {
      scope.abort();
      agent.stop();
      return Promise.resolve();
    },
  };
  await agent.start();
  return agent;
}

type Done<T> = sendUnaryData<T>;
type ClientArguments = [ReturnType<typeof credentials.createInsecure>, Partial<ClientOptions>];

const clientOptions = {
  'grpc.use_local_subchannel_pool': 1,
  'grpc.initial_reconnect_backoff_ms': 20,
  'grpc.max_reconnect_backoff_ms': 100,
  'grpc.max_receive_message_length': -1,
};
