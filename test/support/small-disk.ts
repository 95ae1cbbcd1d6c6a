/** A small disk of a test's own under the state directory of an agent: a tmpfs, which only root may mount. */
import { execFile } from 'node:child_process';
import { mkdir, open, rm, statfs } from 'node:fs/promises';
import { promisify } from 'node:util';
import type { Home } from './yggd.js';

const run = promisify(execFile);

/** Why there can be none here, or false. */
export const smallDiskMissing: string | false =
  process.getuid?.() === 0 ? false : 'only root can mount a small disk (tmpfs)';

export class SmallDisk implements AsyncDisposable {
  private constructor(private readonly path: string) {}

  static async mount(home: Home, megabytes: number): Promise<SmallDisk> {
    const path = home.path('state');
    await mkdir(path, { recursive: true });
    await run('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=0700`, 'tmpfs', path]);
    return new SmallDisk(path);
  }

  get #ballast(): string {
    return `${this.path}/ballast`;
  }

  /** Takes all the room there is but so many bytes. */
  async fill(left = 0): Promise<void> {
    const file = await open(this.#ballast, 'a');
    try {
      const { bavail, bsize } = await statfs(this.path);
      const blocks = bavail - Math.ceil(left / bsize);
      if (blocks > 0) await file.write(Buffer.alloc(blocks * bsize));
    } finally {
      await file.close();
    }
  }

  /** Gives the room back. */
  async empty(): Promise<void> {
    await rm(this.#ballast, { force: true });
  }

  async makeReadOnly(): Promise<void> {
    await run('mount', ['-o', 'remount,ro', this.path]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run('umount', ['-l', this.path]);
  }
}
