/** A GrpcServer of a test's own, and the clients that call it. */
import { connect, type ClientHttp2Session } from 'node:http2';
import { createConnection, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { Client, credentials, type ChannelOptions } from '@grpc/grpc-js';
import { GrpcServer, type ServerCall, type ServerMethod } from '../../src/grpc/index.js';
import { systemClock, type Clock } from '../../src/time.js';
import { tempDir } from './temp.js';

export interface ServedGrpc extends AsyncDisposable {
  readonly path: string;
  /** Connections that were accepted, in turn. */
  readonly accepted: readonly Socket[];
  client(options?: ChannelOptions): Client;
  /** A connection of bare HTTP/2. */
  session(): ClientHttp2Session;
  /** Closes the server; resolves when no connection is open. Idempotent. */
  stop(): Promise<void>;
}

/** Serves methods at paths on a Unix socket. */
export async function servedGrpc(
  methods: Readonly<Record<string, ServerMethod>>,
  clock: Clock = systemClock,
): Promise<ServedGrpc> {
  const directory = await tempDir();
  const path = join(directory.path, 's');
  const server = new GrpcServer({ methods: new Map(Object.entries(methods)), mostCalls: 128, clock });
  const accepted: Socket[] = [];
  const listener = createServer((socket) => {
    accepted.push(socket);
    server.serve(socket);
  });
  await new Promise<void>((resolve) => listener.listen(path, resolve));
  const clients: Client[] = [];
  const sessions: ClientHttp2Session[] = [];
  const stop = async (): Promise<void> => {
    const closed = new Promise<void>((resolve) => listener.close(() => resolve()));
    server.close();
    await closed;
  };
  return {
    path,
    accepted,
    client: (options) => {
      const client = new Client(`unix:${path}`, credentials.createInsecure(), options);
      clients.push(client);
      return client;
    },
    session: () => {
      const session = connect('http://localhost', { createConnection: () => createConnection(path) });
      session.on('error', () => undefined);
      sessions.push(session);
      return session;
    },
    stop,
    [Symbol.asyncDispose]: async () => {
      for (const client of clients) client.close();
      for (const session of sessions) session.destroy();
      await stop();
      await directory[Symbol.asyncDispose]();
    },
  };
}

/** A call of many messages, and what was told of it. */
export interface Told {
  readonly call: ServerCall;
  readonly messages: Buffer[];
  readonly events: string[];
  /** Resolves when the last of `events` is this. */
  readonly on: (event: string) => Promise<void>;
}

/** A method whose calls have many messages, and its calls as they come. */
export function talking(largest = 100): { readonly method: ServerMethod; readonly next: () => Promise<Told> } {
  const came: Told[] = [];
  const waiting: ((told: Told) => void)[] = [];
  return {
    method: {
      kind: 'stream',
      call: (call) => {
        const messages: Buffer[] = [];
        const events: string[] = [];
        let wake: (() => void) | undefined;
        const tell = (event: string): void => {
          events.push(event);
          wake?.();
        };
        const on = async (event: string): Promise<void> => {
          while (events.at(-1) !== event) await new Promise<void>((resolve) => (wake = resolve));
        };
        call.listen(
          {
            onMessage: (message) => {
              messages.push(message);
              tell(`message ${messages.length}`);
            },
            onProblem: ({ kind }) => tell(kind),
            onEnd: () => tell('end'),
            onClose: () => tell('close'),
          },
          largest,
        );
        const told: Told = { call, messages, events, on };
        const first = waiting.shift();
        if (first === undefined) came.push(told);
        else first(told);
      },
    },
    next: () => {
      const first = came.shift();
      return first === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(first);
    },
  };
}
