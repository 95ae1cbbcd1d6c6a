/**
 * What the kernel tells of processes and of the disk: read when somebody asks, never in between. What cannot be read,
 * since a process has just ended, is left out.
 */
import { readdir, readFile, stat, statfs } from 'node:fs/promises';
import { METRICS } from './catalogue.js';
import type { Registry } from './instruments.js';

/** The agent's own process. */
export async function collectProcess(registry: Registry): Promise<void> {
  const set = (metric: Parameters<Registry['count']>[0], value: number | undefined): void => {
    if (value !== undefined) registry.count(metric).with().value = value;
  };
  const { user, system } = process.cpuUsage();
  set(METRICS.cpu, (user + system) / 1e6);
  const memory = process.memoryUsage();
  set(METRICS.resident, memory.rss);
  set(METRICS.heapUsed, memory.heapUsed);
  set(METRICS.heapTotal, memory.heapTotal);
  set(METRICS.external, memory.external);
  set(METRICS.processStarted, Date.now() / 1000 - process.uptime());
  const [status, limits, descriptors] = await Promise.all([
    textOf('/proc/self/status'),
    textOf('/proc/self/limits'),
    readdir('/proc/self/fd').catch(() => undefined),
  ]);
  set(METRICS.virtual, amountIn(status, 'VmSize'));
  // The one that reads the list is among them.
  set(METRICS.descriptors, descriptors && descriptors.length - 1);
  const most = /^Max open files +(\d+|unlimited)/m.exec(limits)?.[1];
  set(METRICS.maxDescriptors, most === undefined ? undefined : most === 'unlimited' ? Infinity : Number(most));
}

/** Resident bytes of a process, or undefined when it is gone. */
export async function residentBytes(pid: number): Promise<number | undefined> {
  return amountIn(await textOf(`/proc/${pid}/status`), 'VmRSS');
}

/** Size of a file, or undefined when it cannot be looked at. */
export async function sizeOf(path: string): Promise<number | undefined> {
  return stat(path).then(
    ({ size }) => size,
    () => undefined,
  );
}

/** Free bytes, for this user, of the file system that holds a directory. */
export async function freeBytes(directory: string): Promise<number | undefined> {
  return statfs(directory).then(
    ({ bavail, bsize }) => bavail * bsize,
    () => undefined,
  );
}

function textOf(path: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => '');
}

function amountIn(status: string, name: string): number | undefined {
  const match = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status);
  return match?.[1] === undefined ? undefined : Number(match[1]) * 1024;
}
