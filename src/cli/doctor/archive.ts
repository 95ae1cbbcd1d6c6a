/**
 * Writes parts as a .tar.gz with the system's `tar`: for the eyes of whoever asked only, never over a file that is there,
 * and never through a symbolic link. What was begun and did not come to its end is taken away.
 */
import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { mkdir, mkdtemp, open, rm, writeFile, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { AgentError, errnoOf, errorText } from '../../errors.js';

export interface ArchiveFile {
  readonly name: string;
  readonly text: string;
}

/** A place for an archive that nobody else has. */
export class Archive implements AsyncDisposable {
  #isDone = false;

  private constructor(
    readonly path: string,
    private readonly handle: FileHandle,
  ) {}

  /** Makes the file. Throws `bundle.unwritable`. */
  static async create(path: string): Promise<Archive> {
    const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
    try {
      const handle = await open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
      await handle.chmod(0o600);
      return new Archive(path, handle);
    } catch (error) {
      const reason = errnoOf(error) === 'EEXIST' ? 'there is such a file already; name another one' : errorText(error);
      throw new AgentError('bundle.unwritable', `cannot write ${path}: ${reason}`, { path }, { cause: error });
    }
  }

  /** Writes all files below one directory in the archive; the number of bytes it takes. Throws `bundle.unwritable`. */
  async write(directory: string, files: readonly ArchiveFile[], scope: AbortSignal): Promise<number> {
    const work = await mkdtemp(join(tmpdir(), 'ygg-bundle-'));
    try {
      await mkdir(join(work, directory), { mode: 0o700 });
      for (const { name, text } of files)
        await writeFile(join(work, directory, name), text, { mode: 0o600, flag: 'wx' });
      await this.#pack(work, directory, scope);
      const { size } = await this.handle.stat();
      this.#isDone = true;
      return size;
    } catch (error) {
      scope.throwIfAborted();
      if (error instanceof AgentError) throw error;
      const text = `cannot write ${this.path}: ${errorText(error)}`;
      throw new AgentError('bundle.unwritable', text, { path: this.path }, { cause: error });
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  }

  async #pack(work: string, directory: string, scope: AbortSignal): Promise<void> {
    const child = spawn('tar', ['-cf', '-', '-C', work, directory], {
      stdio: ['ignore', 'pipe', 'ignore'],
      env: { PATH: process.env['PATH'], LC_ALL: 'C' },
    });
    const ended = new Promise<void>((resolve, reject) => {
      child.once('error', (cause) => {
        const isMissing = errnoOf(cause) === 'ENOENT';
        const reason = isMissing ? 'this machine has no program `tar`: install it' : errorText(cause);
        reject(new AgentError('bundle.unwritable', `cannot write ${this.path}: ${reason}`, {}, { cause }));
      });
      child.once('close', (code) =>
        code === 0 ? resolve() : reject(new Error(`tar ended with ${code ?? 'a signal'}`)),
      );
    });
    const written = pipeline(child.stdout, createGzip(), this.handle.createWriteStream({ autoClose: false }), {
      signal: scope,
    });
    try {
      await Promise.all([ended, written]);
    } finally {
      child.kill('SIGKILL');
      await Promise.allSettled([ended, written]);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.handle.close();
    if (!this.#isDone) await rm(this.path, { force: true });
  }
}
