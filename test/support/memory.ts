/** What a process takes of memory and descriptors, as the kernel counts it. */
import { readdirSync, readFileSync } from 'node:fs';

/** The most resident memory it ever had, or has now, in bytes. */
export function residentBytes(pid: number, which: 'VmHWM' | 'VmRSS'): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(new RegExp(`^${which}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]) * 1024;
}

/** How many descriptors it has open. */
export function openDescriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}
