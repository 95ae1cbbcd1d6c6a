/**
 * A steady flow for runs that are long or large: it counts and forgets, so that the test itself stays small. No harm is
 * done while it runs, so each message has exactly one end: an answer that nobody waits for is a duplicate.
 */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Operator } from './operator.js';
import type { TestServer } from './http.js';

/** For a broker whose own log must not fill the test's memory. */
export const QUIET_BROKER = ['log_type error', 'log_type notice', 'log_type information'];

export class Flow {
  sent = 0;
  ended = 0;
  duplicates = 0;
  refused = 0;
  readonly #open = new Set<string>();
  /** Of this flow; what else is answered is none of its business. */
  readonly #directives = new Set<string>();
  #wake: () => void = () => undefined;

  constructor(
    private readonly operator: Operator,
    scope: AbortSignal,
    server?: TestServer,
  ) {
    operator.hear.connect(({ type, response_to: id, directive, metadata }) => {
      operator.heard.length = 0;
      operator.everything.length = 0;
      if (type !== 'data' || id === undefined || !this.#directives.has(directive ?? '')) return;
      if (metadata?.['status'] === 'error') this.refused += 1;
      this.#end(id);
    }, scope);
    server?.seen.connect(({ method, body }) => {
      server.requests.length = 0;
      if (method === 'POST') this.#end(body.toString());
    }, scope);
  }

  get open(): number {
    return this.#open.size;
  }

  /** Sends one and does not wait for the broker. */
  send(directive: string, content: string): void {
    const id = this.operator.newId();
    this.sent += 1;
    this.#directives.add(directive);
    this.#open.add(id);
    // A broker that goes away is the run's own end: no answer comes any more.
    this.operator.send(directive, content, { id }).catch(() => undefined);
  }

  /** Resolves when so few are open; rejects when none came to its end for a minute. */
  async until(left: number): Promise<void> {
    while (this.#open.size > left) {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<'late'>((resolve) => (timer = setTimeout(() => resolve('late'), PATIENCE_MS)));
      const progress = new Promise<void>((resolve) => (this.#wake = resolve));
      const came = await Promise.race([progress, late]);
      clearTimeout(timer);
      if (came === 'late')
        throw new Error(`${this.#open.size} messages have no end, and none came for ${PATIENCE_MS} ms`);
    }
  }

  #end(id: string): void {
    if (this.#open.delete(id)) this.ended += 1;
    else this.duplicates += 1;
    this.#wake();
  }
}

const PATIENCE_MS = 60_000;

/** What a process takes, in bytes, and its descriptors. */
export interface Footprint {
  readonly rss: number;
  readonly peak: number;
  /** Of the resident bytes, those that are no file's: a mapped file can be taken back at any time. */
  readonly anonymous: number;
  readonly descriptors: number;
}

export function footprintOf(pid: number): Footprint {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const field = (name: string): number => 1024 * Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]);
  const fds = `/proc/${pid}/fd`;
  return {
    rss: field('VmRSS'),
    peak: field('VmHWM'),
    anonymous: field('RssAnon'),
    descriptors: readdirSync(fds).filter((fd) => isOpen(join(fds, fd))).length,
  };
}

function isOpen(path: string): boolean {
  try {
    readlinkSync(path);
    return true;
  } catch {
    // Closed since the directory was read.
    return false;
  }
}

/** Bytes of all files below a directory. */
export function bytesBelow(directory: string): number {
  let sum = 0;
  for (const name of readdirSync(directory, { recursive: true, encoding: 'utf8' })) {
    const stat = statSync(join(directory, name), { throwIfNoEntry: false });
    if (stat?.isFile() === true) sum += stat.blocks * 512;
  }
  return sum;
}

/** `12.3 MB`. */
export function mb(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
