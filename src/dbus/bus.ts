/**
 * A connection to a D-Bus: the system bus, or the private address of one service. Calls have a deadline and end with
 * the scope; errors are AgentErrors of the codes `dbus.*`. The client package is read when the first connection is made,
 * so that nobody else pays for it.
 */
import type { MessageBus, Message } from 'dbus-native';
import type { Socket } from 'node:net';
import { AgentError, errorText } from '../errors.js';
import type { Millis } from '../time.js';
import { parseAddress } from './address.js';
import { openSocket } from './socket.js';

/** Where the system bus is when the environment does not say (D-Bus specification, "Well-known Message Bus Instances"). */
const SYSTEM_BUS = 'unix:path=/run/dbus/system_bus_socket;unix:path=/var/run/dbus/system_bus_socket';
/** Answers of ours are a few kilobytes. */
const MAX_MESSAGE = 16 * 1024 * 1024;
const SIGNAL = 4;

/** A value and its D-Bus type, for a dictionary `a{sv}`. */
export type Variant = readonly [signature: string, value: unknown];

export interface Call {
  readonly destination: string;
  readonly path: string;
  readonly interface: string;
  readonly member: string;
  /** Of the arguments, as D-Bus writes it. */
  readonly signature?: string;
  readonly body?: readonly unknown[];
}

export interface BusSignal {
  readonly sender: string;
  readonly path: string;
  readonly interface: string;
  readonly member: string;
  readonly body: readonly unknown[];
}

export interface BusOptions {
  readonly address: string;
  /** One service alone at the other end, without a bus between: it gives no names. */
  readonly isPeer?: boolean;
  /** How long a call may take that says nothing else. */
  readonly answerWithin: Millis;
  /** Ends all calls. */
  readonly scope: AbortSignal;
}

/** The address of the system bus: `DBUS_SYSTEM_BUS_ADDRESS`, else where it always is. */
export function systemBusAddress(environment: Readonly<Record<string, string | undefined>>): string {
  return environment['DBUS_SYSTEM_BUS_ADDRESS'] || SYSTEM_BUS;
}

export class Bus implements AsyncDisposable {
  readonly #over = new AbortController();
  #failure: unknown;

  private constructor(
    private readonly bus: MessageBus,
    private readonly socket: Socket,
    private readonly options: BusOptions,
  ) {
    // What was wrong is told with the calls that fail by the close that follows.
    bus.connection.on('error', (error) => {
      this.#failure = error;
      socket.destroy();
    });
    // The package fails the calls that are in flight then, and waits for ever for an answer to those that come later.
    socket.once('close', () => this.#over.abort());
    if (socket.destroyed) this.#over.abort();
  }

  /** Connects and says hello. Throws `dbus.unavailable` when nobody is there or this user may not speak to it. */
  static async connect(options: BusOptions): Promise<Bus> {
    const socket = await firstOf(options.address);
    const { createClient } = (await import('dbus-native')).default;
    const client = createClient({
      stream: socket,
      // It would say Hello by itself, and throw where nobody can catch when that is refused.
      direct: true,
      authMethods: ['EXTERNAL'],
      plainValues: true,
      maxMessageSize: MAX_MESSAGE,
    });
    const bus = new Bus(client, socket, options);
    if (options.isPeer === true) return bus;
    try {
      await bus.#daemon('Hello', '', []);
    } catch (cause) {
      await bus[Symbol.asyncDispose]();
      throw new AgentError('dbus.unavailable', `the D-Bus refuses us: ${errorText(cause)}`, {}, { cause });
    }
    return bus;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.socket.end();
    this.socket.destroy();
    await this.bus.close();
  }

  /**
   * Calls a method and gives the values of its answer. Throws `dbus.refused` with the name of the D-Bus error in
   * `details.name`, `dbus.no_answer` after the deadline, `dbus.unavailable` when the connection ends, and the reason of
   * the scope when that ends. What must be said after the scope's end comes with a scope of its own.
   */
  async call(
    call: Call,
    answerWithin: Millis = this.options.answerWithin,
    scope: AbortSignal = this.options.scope,
  ): Promise<readonly unknown[]> {
    scope.throwIfAborted();
    if (this.#over.signal.aborted) throw this.#ended(new Error('the other side closed it'));
    const message = { ...call, body: call.body === undefined ? undefined : [...call.body] } as Message;
    const ending = new AbortController();
    const end = (): void => ending.abort();
    scope.addEventListener('abort', end, { once: true });
    const over = this.#over.signal;
    over.addEventListener('abort', end, { once: true });
    // Its own timer, and one that keeps the program alive: the package's does not.
    const timer = setTimeout(end, answerWithin);
    try {
      return await new Promise((resolve, reject) => {
        this.bus.invoke(message, { signal: ending.signal }, (error: unknown, ...values: unknown[]) =>
          error === null || error === undefined ? resolve(values) : reject(toError(error)),
        );
      });
    } catch (error) {
      scope.throwIfAborted();
      throw this.#told(error, call, answerWithin);
    } finally {
      clearTimeout(timer);
      scope.removeEventListener('abort', end);
      over.removeEventListener('abort', end);
    }
  }

  /** Reads one property (org.freedesktop.DBus.Properties). */
  async property(at: Pick<Call, 'destination' | 'path' | 'interface'>, name: string): Promise<unknown> {
    const { destination, path } = at;
    const get = { destination, path, interface: 'org.freedesktop.DBus.Properties', member: 'Get' };
    const [value] = await this.call({ ...get, signature: 'ss', body: [at.interface, name] });
    return value;
  }

  /** Calls `fn` with each signal of this member that the owner of the name `sender` sends, until `scope` ends. */
  async listen(
    from: Pick<Call, 'destination' | 'interface' | 'member'>,
    fn: (signal: BusSignal) => void,
    scope: AbortSignal,
  ): Promise<void> {
    const { destination, member } = from;
    const [owner] = await this.#daemon('GetNameOwner', 's', [destination]);
    const heard = (message: Message): void => {
      // Whoever is on the bus may send a signal to us alone and call it anything: only the name's owner counts.
      if (message.type !== SIGNAL || message.sender !== owner) return;
      if (message.interface !== from.interface || message.member !== member) return;
      fn({
        sender: message.sender ?? '',
        path: message.path ?? '',
        interface: from.interface,
        member,
        body: message.body ?? [],
      });
    };
    const { connection } = this.bus;
    connection.on('message', heard);
    scope.addEventListener('abort', () => connection.removeListener('message', heard), { once: true });
    const rule = `type='signal',sender='${destination}',interface='${from.interface}',member='${member}'`;
    await this.#daemon('AddMatch', 's', [rule]);
  }

  #daemon(member: string, signature: string, body: readonly unknown[]): Promise<readonly unknown[]> {
    const daemon = {
      destination: 'org.freedesktop.DBus',
      path: '/org/freedesktop/DBus',
      interface: 'org.freedesktop.DBus',
    };
    return this.call({ ...daemon, member, ...(signature === '' ? {} : { signature, body }) });
  }

  #told(error: unknown, { destination, interface: of, member }: Call, waited: Millis): AgentError {
    const what = `${of}.${member}`;
    const name = error instanceof Error && 'dbusName' in error ? String(error.dbusName) : '';
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'ABORT_ERR' && !this.#over.signal.aborted)
      return new AgentError(
        'dbus.no_answer',
        `${destination} did not answer ${what} within ${waited / 1000} s`,
        {},
        { cause: error },
      );
    if (code === 'ECONNCLOSED' || name === '') return this.#ended(error);
    return new AgentError('dbus.refused', errorText(error), { name, call: what }, { cause: error });
  }

  #ended(error: unknown): AgentError {
    const why = this.#failure ?? error;
    return new AgentError('dbus.unavailable', `the D-Bus connection ended: ${errorText(why)}`, {}, { cause: error });
  }
}

function toError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

async function firstOf(address: string): Promise<Socket> {
  const sockets = parseAddress(address);
  let failure: unknown = new Error('it names no socket of this machine');
  for (const socket of sockets) {
    try {
      return await openSocket(socket);
    } catch (error) {
      if (error instanceof AgentError) throw error;
      failure = error;
    }
  }
  throw new AgentError(
    'dbus.unavailable',
    `cannot reach the D-Bus at ${address}: ${errorText(failure)}`,
    {},
    { cause: failure },
  );
}
