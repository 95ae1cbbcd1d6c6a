/**
 * Places at which a fault run lets the process die, as by kill -9. Each stands in the code as a statement under the
 * label FAULT, which the build leaves out of everything that ships (esbuild's `dropLabels`): only the test build
 * (`npm run build -- --fault`) and code that runs from source know them, and there the environment switches one on:
 * YGG_CRASH_POINT=LABEL dies at the first pass, LABEL:7 at the seventh.
 */

/** In the order in which a message passes them. */
export const CRASH_POINTS = [
  'start.journal-open',
  'start.upgrading',
  'intake.parsed',
  'intake.durable',
  'puback.before-write',
  'puback.written',
  'command.recorded',
  'content.file-synced',
  'journal.before-commit',
  'journal.committed',
  'checkpoint.begun',
  'checkpoint.part',
  'checkpoint.done',
  'fetch.body-written',
  'fetch.recorded',
  'dispatch.before-call',
  'dispatch.receipt',
  'dispatch.delivered',
  'result.received',
  'result.durable',
  'complete.received',
  'complete.durable',
  'publish.before-write',
  'publish.acknowledged',
  'publish.recorded',
  'post.before-request',
  'post.answered',
  'post.recorded',
] as const;
export type CrashPoint = (typeof CRASH_POINTS)[number];

/** How often each label was passed in this process. */
const passes = new Map<string, number>();

/** Kills this process with SIGKILL when the environment names this place and this pass of it; else does nothing. */
export function crashPoint(label: CrashPoint): void {
  const [wanted, pass = '1'] = (process.env['YGG_CRASH_POINT'] ?? '').split(':');
  if (wanted !== label) return;
  const count = (passes.get(label) ?? 0) + 1;
  passes.set(label, count);
  if (count === Number(pass)) process.kill(process.pid, 'SIGKILL');
}
