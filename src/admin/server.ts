/**
 * The operator's service: gRPC on `admin/admin.sock` in the runtime directory. The directory lets in the agent's own
 * user and group (and root) and nobody else, so whoever reaches the socket may do all that stands in admin.proto.
 */
import { chmod, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Server, status } from '@grpc/grpc-js';
import { AdminService, type AdminServer, type Message, type MessageFilter } from '../../protocol/generated/admin.js';
import { AgentError, errorText } from '../errors.js';
import type { Log } from '../log/log.js';
import { contentSize, quoted } from '../message/index.js';
import { answering, Refusal, streaming, valueOf, type Outlet } from './answering.js';
import { configCalls } from './config-calls.js';
import { eventCalls } from './event-calls.js';
import { Listener } from './listener.js';
import { logCalls } from './log-calls.js';
import { messageCalls } from './message-calls.js';
import { keyFrom, MESSAGE_STATES, messageView, passes, unknown } from './message-view.js';
import type { AdminDesk, AnyMessage } from './ports.js';
import { workerCalls } from './worker-calls.js';

/** What stands around the content of a message: its ids and metadata. */
const MAX_ENVELOPE = 1024 * 1024;
const MAX_ANSWER = 64 * 1024 * 1024;
/** A larger content is not shown in one piece. */
const MAX_CONTENT = MAX_ANSWER - MAX_ENVELOPE;
const MAX_CALLS = 64;
/** sun_path has 108 bytes on Linux, the last of them NUL. */
const MAX_SOCKET_PATH = 107;

export interface AdminOptions {
  readonly runtimeDir: string;
  readonly desk: AdminDesk;
  /** Bytes of the largest message that an operator may dispatch. */
  readonly maxMessageSize: number;
  /** Tells what is wrong with the way to a directory: who else could change it. */
  readonly wayProblem?: (directory: string) => Promise<string | undefined>;
  readonly log: Log;
}

/** Where the agent with this runtime directory listens for its operator. */
export function adminSocket(runtimeDir: string): string {
  return join(runtimeDir, 'admin', 'admin.sock');
}

export class AdminPost {
  #listener: Listener | undefined;

  constructor(private readonly options: AdminOptions) {}

  /** Listens. Throws `runtime.path_too_long` or `runtime.unusable`. */
  async start(): Promise<void> {
    const path = adminSocket(this.options.runtimeDir);
    const bytes = Buffer.byteLength(path);
    if (bytes > MAX_SOCKET_PATH) {
      const text = `cannot listen for the operator at ${path}: the path has ${bytes} bytes and a socket may have ${MAX_SOCKET_PATH}; set a shorter "runtime-dir"`;
      throw new AgentError('runtime.path_too_long', text, { path, bytes });
    }
    try {
      await this.#listen(path);
    } catch (error) {
      const text = `cannot listen for the operator at ${path}: ${errorText(error)}; check the owner and mode of "runtime-dir"`;
      throw new AgentError('runtime.unusable', text, { path }, { cause: error });
    }
  }

  /** Breaks off what is asked just now. Idempotent. */
  async stop(): Promise<void> {
    const listener = this.#listener;
    if (listener === undefined) return;
    this.#listener = undefined;
    await listener.close();
    await rm(adminSocket(this.options.runtimeDir), { force: true }).catch(() => undefined);
  }

  async #listen(path: string): Promise<void> {
    const directory = join(path, '..');
    await mkdir(directory, { recursive: true, mode: 0o750 });
    const problem = await this.options.wayProblem?.(directory);
    if (problem !== undefined) throw new Error(problem);
    // Whatever the umask is. Before the socket is there: it is nobody else's for a moment either.
    await chmod(directory, 0o750);
    await rm(path, { force: true });
    const server = new Server({
      'grpc.max_receive_message_length': this.options.maxMessageSize + MAX_ENVELOPE,
      'grpc.max_send_message_length': MAX_ANSWER,
      'grpc.max_concurrent_streams': MAX_CALLS,
      'grpc.enable_channelz': 0,
    });
    server.addService(AdminService, this.#services());
    this.#listener = await Listener.open(path, server, this.options.log);
    await chmod(path, 0o660);
  }

  #services(): AdminServer {
    const { desk, log } = this.options;
    return {
      ...workerCalls(desk.workers, log),
      ...logCalls(desk.log, log),
      ...configCalls(desk.config, desk, log),
      ...messageCalls(desk, log),
      ...eventCalls(desk, log),
      getStatus: answering(log, () => desk.status()),
      listMessages: streaming<MessageFilter, Message>(log, (filter, outlet) => this.#list(filter, outlet)),
      getMessage: answering(log, async ({ key }) => {
        const message = desk.find(keyFrom(key));
        if (message === undefined) throw unknown(key);
        return await this.#view(message, MAX_CONTENT);
      }),
      replayMessage: answering(log, async ({ key }) => {
        return { key: BigInt(valueOf(await desk.replay(keyFrom(key)))) };
      }),
      cancelMessage: answering(log, async ({ key }) => valueOf(await desk.cancel(keyFrom(key)))),
      setLink: answering(log, async ({ isUp }) => {
        await desk.setLink(isUp);
        return {};
      }),
    };
  }

  /** With its content, or with the reason why it has none. */
  async #view(message: AnyMessage, most: number): Promise<Message> {
    const size = contentSize(message.content);
    if (size > most) return { ...messageView(message), contentProblem: `it has ${size} bytes, more than ${most}` };
    try {
      return messageView(message, await this.options.desk.content(message));
    } catch (error) {
      return { ...messageView(message), contentProblem: errorText(error) };
    }
  }

  async #list(filter: MessageFilter, { gone, write }: Outlet<Message>): Promise<void> {
    const { state, limit } = filter;
    const contentLimit = Math.min(Number(filter.contentLimit), MAX_CONTENT);
    if (state !== '' && !(MESSAGE_STATES as readonly string[]).includes(state)) {
      throw new Refusal(status.INVALID_ARGUMENT, `no message is in state ${quoted(state)}`);
    }
    let left = limit === 0 ? Infinity : limit;
    for (const page of pages(this.options.desk)) {
      for (const record of page) {
        if (!passes(record, filter)) continue;
        await write(contentLimit === 0 ? messageView(record) : await this.#view(record, contentLimit));
        left -= 1;
        if (left === 0) return;
      }
      // Between two pages the agent does its own work.
      await new Promise((resolve) => setImmediate(resolve));
      if (gone.aborted) return;
    }
  }
}

function* pages<Start>(desk: AdminDesk<Start>): Generator<readonly AnyMessage[]> {
  let start: Start | undefined;
  do {
    const { records, next } = desk.page(start);
    yield records;
    start = next;
  } while (start !== undefined);
}
