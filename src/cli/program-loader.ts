/**
 * Loads a program that the build made of CommonJS chunks, with V8's code cache where there is one: a start then need
 * not compile. The cache of `x.cjs` is `x.cjs.cache` beside it, made by scripts/code-cache.js at build or install time
 * and never written here; so whoever could change it could change the program as well. One that is missing, unreadable,
 * damaged, of another build or of another Node is left aside, and the chunk is compiled as ever.
 */
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { Script } from 'node:vm';
import { crc32 } from 'node:zlib';

type Require = (name: string) => unknown;
/** A chunk is one function expression, so that V8 takes it as it is. */
type Chunk = (exports: object, require: Require, module: { exports: unknown }, file: string, directory: string) => void;

/** The name a chunk's cache has. */
export const cacheFileOf = (chunk: string): string => `${chunk}.cache`;

/** Checksums of the chunk and of the data, before the data. V8 itself compares no more than the source's length. */
const HEAD = 8;
const WRITABLE_BY_OTHERS = 0o022;

export class ProgramLoader {
  readonly #native: NodeJS.Require;
  readonly #modules = new Map<string, { exports: unknown }>();
  readonly #scripts = new Map<string, { readonly script: Script; readonly source: Buffer }>();
  readonly #directory: string;
  readonly #compiled: string[] = [];

  /**
   * `url` is that of a module in dist/: chunks and native packages are found from there. Only whoever asks for `caches`
   * later records: the scripts are kept in memory for it.
   */
  constructor(
    url: string,
    private readonly isRecording = false,
  ) {
    this.#native = createRequire(url);
    this.#directory = dirname(fileURLToPath(url));
  }

  /**
   * Runs the program `chunks/<name>.cjs`. `builtins`: the modules of Node that it will load by itself. Node holds a code
   * cache of them that V8 takes only under the flags of the command line; so they come before ours, or each is compiled,
   * which took a fifth of a start (docs/performance.md).
   */
  run(name: string, builtins: readonly string[] = []): void {
    for (const builtin of builtins) this.#native(builtin);
    setHeapFlags();
    this.#load(join(this.#directory, 'chunks', `${name}.cjs`));
  }

  /** The chunks that were loaded without a cache. */
  get compiled(): readonly string[] {
    return this.#compiled;
  }

  /** For each chunk that was loaded, the file and the content of a cache that holds what was compiled until now. */
  caches(): ReadonlyMap<string, Buffer> {
    const made = [...this.#scripts].map(([file, { script, source }]): [string, Buffer] => {
      const data = script.createCachedData();
      const head = Buffer.alloc(HEAD);
      head.writeUInt32LE(crc32(source), 0);
      head.writeUInt32LE(crc32(data), 4);
      return [cacheFileOf(file), Buffer.concat([head, data])];
    });
    return new Map(made);
  }

  #load(file: string): unknown {
    const known = this.#modules.get(file);
    if (known !== undefined) return known.exports;
    const { content: source, owner } = readWhole(file);
    const cachedData = cachedDataFor(file, source, owner);
    // ASCII alone, as the build sees to: one byte a letter in memory.
    const script = new Script(source.toString('latin1'), { filename: file, ...(cachedData && { cachedData }) });
    if (cachedData === undefined || script.cachedDataRejected === true) this.#compiled.push(file);
    if (this.isRecording) this.#scripts.set(file, { script, source });
    const module = { exports: {} };
    this.#modules.set(file, module);
    const directory = dirname(file);
    const require: Require = (name) => (name.startsWith('.') ? this.#load(join(directory, name)) : this.#native(name));
    const chunk = script.runInThisContext() as Chunk;
    chunk(module.exports, Object.assign(require, this.#native), module, file, directory);
    return module.exports;
  }
}

/**
 * V8 lets the heap grow far beyond what lives in it before it collects: a flood of messages took 350 MB of which 30 were
 * in use. An edge machine has other uses for it; at twice what lives the rate is nearly that of V8's own choice.
 * And V8 counts the bytes of Buffers as heap: each 64 MiB of contents began a collection in the background, which on two
 * cores takes the time that the messages need. Done at once, when it is due, a message of 1 MiB takes half of it; what
 * lives is so little that the pause is some 20 ms (docs/performance.md).
 * Before anything is compiled: a code cache is of the flags it was made with. No other process has to be started for it,
 * which would take 40 ms.
 */
function setHeapFlags(): void {
  setFlagsFromString('--heap-growing-percent=100');
  setFlagsFromString('--no-incremental-marking');
  // Nobody's but `memory-relief.ts`: contexts that are there already do not get it.
  setFlagsFromString('--expose-gc');
}

interface Whole {
  readonly content: Buffer;
  readonly owner: number;
  readonly mode: number;
}

function readWhole(file: string): Whole {
  const fd = openSync(file, 'r');
  try {
    const { uid, mode } = fstatSync(fd);
    return { content: readFileSync(fd), owner: uid, mode };
  } finally {
    closeSync(fd);
  }
}

/** What V8 may take instead of compiling; undefined where there is nothing that can be trusted. */
function cachedDataFor(file: string, source: Buffer, owner: number): Buffer | undefined {
  try {
    const cache = readWhole(cacheFileOf(file));
    if (cache.owner !== owner || (cache.mode & WRITABLE_BY_OTHERS) !== 0) return undefined;
    const data = cache.content.subarray(HEAD);
    if (cache.content.readUInt32LE(0) !== crc32(source) || cache.content.readUInt32LE(4) !== crc32(data))
      return undefined;
    return data;
  } catch {
    // Not there, not readable or cut short: the chunk is compiled, which takes longer and does the same.
    return undefined;
  }
}
