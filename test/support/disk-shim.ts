/**
 * The disk of one agent, in the hands of a test: disk-shim.c compiled and loaded into it. The disk can fail, be full, be
 * slow or lie about syncs, from one moment to the next; and after the agent was killed its power can be cut, which puts
 * back what was stable at the last syncs.
 */
import { execFile, spawnSync } from 'node:child_process';
import { mkdir, open, readFile, readdir, rm, stat, truncate, writeFile, type FileHandle } from 'node:fs/promises';
import { constants } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Random } from '../../src/time.js';
import { ROOT, type Home } from './yggd.js';

/** Why it cannot be used here, or false. */
export const diskShimMissing: string | false =
  process.platform !== 'linux'
    ? 'the disk shim is for Linux'
    : spawnSync('cc', ['--version']).status === 0
      ? false
      : 'there is no C compiler (cc)';

/** The words of the control file, as disk-shim.c has them. */
const WORDS = ['syncErrno', 'syncDelay', 'syncLies', 'writeErrno', 'readErrno', 'syncs'] as const;
const CONTROL_BYTES = 64;
/** What a disk writes as a whole. */
const SECTOR = 512;

export type DiskError = 'EIO' | 'ENOSPC' | 'EROFS';

/** What goes wrong from now on. What is not named is in order. */
export interface DiskTrouble {
  readonly sync?: DiskError;
  /** Each sync takes so long, in milliseconds. */
  readonly syncDelay?: number;
  /** Syncs say that all is well and do nothing. */
  readonly syncLies?: boolean;
  readonly write?: DiskError;
  readonly read?: DiskError;
}

export class DiskShim implements AsyncDisposable {
  /** The environment of an agent whose disk this is. Its own property, so that a spread of the shim keeps it. */
  readonly env: Readonly<Record<string, string>>;

  private constructor(
    private readonly home: Home,
    private readonly control: FileHandle,
  ) {
    this.env = {
      LD_PRELOAD: home.path('disk', 'shim.so'),
      DISK_SHIM_DIR: home.path('state'),
      DISK_SHIM_STABLE: home.path('disk', 'stable'),
      DISK_SHIM_CONTROL: home.path('disk', 'control'),
    };
  }

  /** Compiles the shim into the home and makes it ready for an agent of that home. */
  static async make(home: Home): Promise<DiskShim> {
    await mkdir(home.path('disk', 'stable'), { recursive: true });
    const source = join(ROOT, 'test/support/disk-shim.c');
    const flags = ['-shared', '-fPIC', '-O1', '-o', home.path('disk', 'shim.so'), source, '-ldl', '-lpthread'];
    await promisify(execFile)('cc', flags);
    await writeFile(home.path('disk', 'control'), Buffer.alloc(CONTROL_BYTES));
    return new DiskShim(home, await open(home.path('disk', 'control'), 'r+'));
  }

  /** How the disk behaves from now on. */
  async behave({ sync, syncDelay = 0, syncLies = false, write, read }: DiskTrouble): Promise<void> {
    const number = (name: DiskError | undefined): number => (name === undefined ? 0 : constants.errno[name]);
    const words = Buffer.alloc(WORDS.indexOf('syncs') * 4);
    [number(sync), syncDelay, Number(syncLies), number(write), number(read)].forEach((value, n) => {
      words.writeInt32LE(value, n * 4);
    });
    await this.control.write(words, 0, words.length, 0);
  }

  /** Syncs so far. */
  async syncs(): Promise<number> {
    const { buffer } = await this.control.read(Buffer.alloc(4), 0, 4, WORDS.indexOf('syncs') * 4);
    return buffer.readInt32LE(0);
  }

  /**
   * Puts the state directory back to what was stable, once its agent is dead. Of what was written and not synced each
   * sector is there or not by chance, as a disk leaves it; without chance none is.
   */
  async cutPower(random: Random | undefined): Promise<void> {
    await this.#restore(this.home.path('state'), random);
  }

  async #restore(directory: string, random: Random | undefined): Promise<void> {
    const { ino } = await stat(directory);
    const listed = await readFile(this.#stable('d', ino), 'utf8').catch(() => '');
    const stable = new Map(
      listed
        .split('\n')
        .filter(Boolean)
        .map((line) => [line.slice(line.indexOf(' ') + 1), Number(line.slice(0, line.indexOf(' ')))]),
    );
    stable.delete('.');
    stable.delete('..');
    for (const entry of await readdir(directory, { withFileTypes: true })) {
      const path = join(directory, entry.name);
      const isStable = stable.has(entry.name);
      if (isStable && entry.isDirectory()) await this.#restore(path, random);
      else if (!isStable || !entry.isFile()) await rm(path, { recursive: true, force: true });
      if (!entry.isFile()) stable.delete(entry.name);
    }
    for (const [name, inode] of stable) await this.#restoreFile(join(directory, name), inode, random);
    const names = await readdir(directory);
    const lines = names.map(async (name) => `${(await stat(join(directory, name))).ino} ${name}\n`);
    await writeFile(this.#stable('d', ino), (await Promise.all(lines)).join(''));
  }

  async #restoreFile(path: string, inode: number, random: Random | undefined): Promise<void> {
    const before = await readFile(this.#stable('f', inode)).catch(() => Buffer.alloc(0));
    const now = await readFile(path).catch(() => before);
    const bytes = Buffer.from(before);
    for (let at = 0; random !== undefined && at < before.length; at += SECTOR)
      if (random() < 0.5) now.copy(bytes, at, at, Math.min(at + SECTOR, now.length));
    const handle = await open(path, 'a', 0o600);
    await handle.close();
    await truncate(path);
    await writeFile(path, bytes);
    // What is there now is stable for the agent that comes next.
    const { ino } = await stat(path);
    await writeFile(this.#stable('f', ino), bytes);
  }

  #stable(type: 'd' | 'f', inode: number): string {
    return this.home.path('disk', 'stable', `${type}-${inode}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.control.close();
  }
}
