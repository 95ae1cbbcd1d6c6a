/**
 * Files by their descriptors, one promise a step: each goes through libuv's threads, and what FileHandle does around it
 * took longer than the step.
 */
import { fsync, open, write, writev } from 'node:fs';

/** Opens a file; one that it makes is nobody else's. */
export function opened(path: string, flags: number): Promise<number> {
  return new Promise((resolve, reject) => {
    open(path, flags, 0o600, (error, file) => {
      if (error === null) resolve(file);
      else reject(error);
    });
  });
}

/** Makes what a file or directory holds durable. */
export function synced(file: number): Promise<void> {
  return new Promise((resolve, reject) => {
    fsync(file, (error) => {
      if (error === null) resolve();
      else reject(error);
    });
  });
}

/** Writes all of it: a write may be short when the disk is nearly full. */
export async function writeAll(file: number, parts: readonly Buffer[]): Promise<void> {
  for (let rest = parts; rest.length > 0;) rest = behind(rest, await written(file, rest));
}

function written(file: number, parts: readonly Buffer[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const done = (error: Error | null, bytes: number): void => {
      if (error === null) resolve(bytes);
      else reject(error);
    };
    const [first] = parts;
    if (parts.length === 1 && first !== undefined) write(file, first, done);
    else writev(file, parts, done);
  });
}

function behind(parts: readonly Buffer[], bytes: number): readonly Buffer[] {
  let left = bytes;
  for (const [index, part] of parts.entries()) {
    if (left < part.length) return [part.subarray(left), ...parts.slice(index + 1)];
    left -= part.length;
  }
  return [];
}
