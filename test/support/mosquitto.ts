/**
 * A real mosquitto for a test: on free loopback ports, in a directory of its own, ready when `startMosquitto` resolves
 * (it waits for the broker's own log line), and gone when its scope ends.
 */
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { Signal } from '../../src/signal/index.js';
import { tempDir } from './temp.js';

const run = promisify(execFile);
/** Debian puts the broker in /usr/sbin, which is not on everybody's PATH. */
const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/usr/local/sbin` };

/** For `test(name, { skip: mosquittoMissing }, …)`: why it cannot run here, or false. */
export const mosquittoMissing: string | false =
  spawnSync('mosquitto', ['-h'], { env }).error === undefined ? false : 'mosquitto is not installed';

export interface TlsListener {
  readonly caFile: string;
  readonly certFile: string;
  readonly keyFile: string;
  /** Refuse a client without a certificate of this authority. */
  readonly requireClientCertificate?: boolean;
  /** The common name of the client's certificate is its user name; it stands in the log line of the connect. */
  readonly identityAsUsername?: boolean;
}

export interface MosquittoOptions {
  /** A plain listener. Default true. */
  readonly plain?: boolean;
  readonly tls?: TlsListener;
  /** A plain websockets listener. */
  readonly websockets?: boolean;
  /** A websockets listener with TLS. */
  readonly secureWebsockets?: TlsListener;
  /** User → password. With it, no anonymous client is let in. */
  readonly users?: Readonly<Record<string, string>>;
  /**
   * Keep sessions and queues over a restart: also after a kill, since the whole store is written at each change, which
   * is slow with many messages; `at-stop` writes it only when the broker is told to stop.
   */
  readonly persistence?: boolean | 'at-stop';
  /** More lines of mosquitto.conf, before the listeners. One that names a default below replaces it. */
  readonly config?: readonly string[];
}

export interface Mosquitto extends AsyncDisposable {
  /** Ports of the listeners; 0 where there is none. They stay the same over a restart. */
  readonly port: number;
  readonly tlsPort: number;
  readonly wsPort: number;
  readonly wssPort: number;
  /** `mqtt://127.0.0.1:PORT` */
  readonly url: string;
  readonly pid: number;
  /** Every log line so far. */
  readonly lines: readonly string[];
  /** Each log line as it comes. */
  readonly logged: Signal<string>;
  /** Resolves with the n-th log line (from 1), past or future, that matches. */
  line(pattern: RegExp, n?: number): Promise<string>;
  /** SIGTERM, and waits for the end. Idempotent. */
  stop(): Promise<void>;
  /** SIGKILL, and waits for the end. Idempotent. */
  kill(): Promise<void>;
  /** Stops it if it runs, and starts it on the same ports. */
  restart(): Promise<void>;
  /** The process stands still (its sockets stay open: a half-open link), until `resume`. */
  pause(): void;
  resume(): void;
}

/** Settings without which mosquitto drops or delays what a test counts. */
const DEFAULTS: readonly string[] = [
  'max_queued_messages 0',
  'max_inflight_messages 0',
  'set_tcp_nodelay true',
  'log_dest stderr',
  'log_type all',
  'connection_messages true',
];

const AUTOSAVE: readonly string[] = ['autosave_interval 1', 'autosave_on_changes true'];

interface Listeners {
  readonly port: number;
  readonly tlsPort: number;
  readonly wsPort: number;
  readonly wssPort: number;
}

/** `await using broker = await startMosquitto()`. */
export async function startMosquitto(options: MosquittoOptions = {}): Promise<Mosquitto> {
  const dir = await tempDir();
  try {
    // Another process may take a free port between our asking and mosquitto's listening: then ask again.
    for (let tries = 1; ; tries++) {
      const broker = new Process(dir.path, await freeListeners(options));
      await broker.configure(options);
      try {
        await broker.start();
        return assemble(broker, () => dir[Symbol.asyncDispose]());
      } catch (error) {
        await broker.end('SIGKILL');
        if (tries === 5 || !broker.lines.some((line) => line.includes('Address already in use'))) throw error;
      }
    }
  } catch (error) {
    await dir[Symbol.asyncDispose]();
    throw error;
  }
}

function assemble(broker: Process, removeDirectory: () => PromiseLike<void>): Mosquitto {
  return {
    ...broker.listeners,
    url: `mqtt://127.0.0.1:${broker.listeners.port}`,
    get pid() {
      return broker.pid;
    },
    lines: broker.lines,
    logged: broker.logged,
    line: (pattern, n) => broker.line(pattern, n),
    stop: () => broker.end('SIGTERM'),
    kill: () => broker.end('SIGKILL'),
    restart: async () => {
      await broker.end('SIGTERM');
      await broker.start();
    },
    pause: () => broker.signal('SIGSTOP'),
    resume: () => broker.signal('SIGCONT'),
    [Symbol.asyncDispose]: async () => {
      await broker.end('SIGKILL');
      await removeDirectory();
    },
  };
}

class Process {
  readonly lines: string[] = [];
  readonly logged = new Signal<string>('logged');
  #child: ChildProcess | undefined;

  constructor(
    readonly directory: string,
    readonly listeners: Listeners,
  ) {}

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  async configure(options: MosquittoOptions): Promise<void> {
    const lines = await configuration(this.directory, this.listeners, options);
    await writeFile(join(this.directory, 'mosquitto.conf'), lines.join('\n') + '\n');
  }

  async start(): Promise<void> {
    const child = spawn('mosquitto', ['-c', join(this.directory, 'mosquitto.conf')], {
      env,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#child = child;
    const orphanGuard = (): boolean => child.kill('SIGKILL');
    process.once('exit', orphanGuard);
    child.once('exit', () => process.removeListener('exit', orphanGuard));
    const started = this.lines.length;
    createInterface({ input: child.stderr }).on('line', (line) => {
      this.lines.push(line);
      this.logged.emit(line);
    });
    const done = new AbortController();
    const gone = (cause: unknown): void =>
      done.abort(new Error(`mosquitto did not start:\n${this.lines.slice(started).join('\n')}`, { cause }));
    child.once('error', gone);
    child.once('exit', gone);
    try {
      await this.logged.next(done.signal, (line) => / running$/.test(line));
    } finally {
      child.removeListener('exit', gone);
    }
  }

  async line(pattern: RegExp, n = 1): Promise<string> {
    for (;;) {
      const found = this.lines.filter((line) => pattern.test(line))[n - 1];
      if (found !== undefined) return found;
      await this.logged.next(new AbortController().signal, (line) => pattern.test(line));
    }
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    const tell = (): void => {
      child.kill(signal);
      // One that stands still does not see SIGTERM before it goes on.
      child.kill('SIGCONT');
    };
    tell();
    // It says that it is running before it begins to listen to SIGTERM, and forgets one that came in between.
    const again = setInterval(tell, 200);
    await exited;
    clearInterval(again);
  }
}

async function configuration(directory: string, ports: Listeners, options: MosquittoOptions): Promise<string[]> {
  const own = options.config ?? [];
  const named = new Set(own.map((line) => line.split(' ', 1)[0]));
  const lines = DEFAULTS.filter((line) => !named.has(line.split(' ', 1)[0])).concat(own);
  // Started as root it would change to a user who cannot read a test's directory.
  lines.push(`user ${userInfo().username}`);
  if (options.users === undefined) lines.push('allow_anonymous true');
  else {
    const file = join(directory, 'passwords');
    const entries = Object.entries(options.users).map(([user, password]) => `${user}:${password}\n`);
    await writeFile(file, entries.join(''), { mode: 0o600 });
    await run('mosquitto_passwd', ['-U', file], { env });
    await chmod(file, 0o600);
    lines.push('allow_anonymous false', `password_file ${file}`);
  }
  if (options.persistence !== undefined && options.persistence !== false) {
    const store = join(directory, 'store');
    await mkdir(store, { recursive: true });
    lines.push('persistence true', `persistence_location ${store}/`);
    lines.push(...(options.persistence === true ? AUTOSAVE : []));
  }
  if (ports.port !== 0) lines.push(`listener ${ports.port} 127.0.0.1`);
  if (ports.tlsPort !== 0) lines.push(`listener ${ports.tlsPort} 127.0.0.1`, ...tlsLines(options.tls));
  if (ports.wsPort !== 0) lines.push(`listener ${ports.wsPort} 127.0.0.1`, 'protocol websockets');
  if (ports.wssPort !== 0)
    lines.push(`listener ${ports.wssPort} 127.0.0.1`, 'protocol websockets', ...tlsLines(options.secureWebsockets));
  return lines;
}

function tlsLines(tls: TlsListener | undefined): string[] {
  if (tls === undefined) return [];
  return [
    `cafile ${tls.caFile}`,
    `certfile ${tls.certFile}`,
    `keyfile ${tls.keyFile}`,
    `require_certificate ${tls.requireClientCertificate === true}`,
    `use_identity_as_username ${tls.identityAsUsername === true}`,
  ];
}

async function freeListeners(options: MosquittoOptions): Promise<Listeners> {
  const wanted = [options.plain ?? true, options.tls, options.websockets, options.secureWebsockets];
  const ports = await freePorts(wanted.filter((want) => want !== undefined && want !== false).length);
  const take = (want: unknown): number => (want === undefined || want === false ? 0 : (ports.pop() ?? 0));
  return {
    port: take(options.plain ?? true),
    tlsPort: take(options.tls),
    wsPort: take(options.websockets),
    wssPort: take(options.secureWebsockets),
  };
}

/**
 * Loopback ports on which nobody listens now. Below those that the kernel gives to clients (32768 and up): a broker
 * that is down for a while must find its port free when it comes back.
 */
export async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) {
    const port = randomInt(12_000, 32_000);
    if (await isFree(port)) ports.add(port);
  }
  return [...ports];
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
