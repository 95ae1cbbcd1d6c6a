/**
 * What the live collections hold of workers and processes, and what is told of a message refused at the door.
 */
import type { Directive, Failure, WorkerName } from '../message/index.js';

/** A directive that a worker has registered. */
export interface Handler {
  /** As the worker wrote it. */
  readonly directive: Directive;
  readonly features: Readonly<Record<string, string>>;
  readonly detachedContent: boolean;
}

/** A worker as the dispatcher sees it. */
export interface WorkerEntry {
  readonly id: WorkerName;
  readonly pid: number | undefined;
  readonly handlers: readonly Handler[];
  /** `gone`: its process has ended and did not come back within the grace of a crash. */
  readonly state: 'registered' | 'gone';
}

/** A worker as the process manager sees it. */
export interface ProcessEntry {
  readonly id: WorkerName;
  readonly state: string;
  readonly pid?: number;
  /** Wall time. */
  readonly startedAt?: number;
  readonly restarts: number;
  readonly detail?: string;
}

/** A message refused at the door. */
export interface Refused {
  readonly messageId?: string | undefined;
  readonly directive?: string | undefined;
  readonly failure: Failure;
  readonly content: Buffer;
  readonly arrivedAt: number;
}
