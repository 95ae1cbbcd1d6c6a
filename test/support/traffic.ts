/** Many messages at once from the operator's end, and the ledger of that end: what was sent, what came back. */
import assert from 'node:assert/strict';
import type { Heard, Operator } from './operator.js';

/** Messages sent in one go. */
export interface Burst {
  readonly ids: readonly string[];
  /** Resolves when the broker has acknowledged so many of them. */
  acknowledged(count: number): Promise<void>;
  readonly acknowledgedSoFar: number;
}

/** Sends `count` messages without waiting; the content of each is `content(n)`. */
export function sendBurst(
  operator: Operator,
  directive: string,
  count: number,
  content: (n: number) => string = String,
): Burst {
  const ids = Array.from({ length: count }, () => operator.newId());
  let soFar = 0;
  let wake: (() => void)[] = [];
  for (const [n, id] of ids.entries()) {
    const sent = operator.send(directive, content(n), { id }).then(() => {
      soFar += 1;
      for (const each of wake.splice(0)) each();
    });
    // A broker that goes away for good is the test's own end.
    sent.catch(() => undefined);
  }
  return {
    ids,
    get acknowledgedSoFar() {
      return soFar;
    },
    async acknowledged(enough) {
      while (soFar < enough) await new Promise<void>((resolve) => (wake = [...wake, resolve]));
    },
  };
}

/** Resolves when at least `enough` (default: all) of these have an answer. */
export async function answered(operator: Operator, ids: readonly string[], enough: number = ids.length): Promise<void> {
  const open = new Set(ids);
  const isEnough = (heard: Heard): boolean => {
    open.delete(heard.response_to ?? '');
    return ids.length - open.size >= enough;
  };
  if (enough === 0) return;
  for (let before = Infinity; ;) {
    try {
      await operator.until(isEnough, 'answers');
      return;
    } catch (error) {
      // A slow machine is given its time as long as answers come.
      if (open.size < before) {
        before = open.size;
        continue;
      }
      // Without the text of what was heard: that is thousands of lines.
      const first = [...open].slice(0, 5).join(', ');
      const heard = operator.heard.length;
      const text = `${ids.length - open.size} of ${ids.length} are answered (${heard} heard); not: ${first} …`;
      throw new Error(text, { cause: error });
    }
  }
}

/** The answers to each of these messages, in the order they came; a message without one is not in it. */
export function answersTo(operator: Operator, ids: readonly string[]): Map<string, Heard[]> {
  const wanted = new Set(ids);
  const answers = new Map<string, Heard[]>();
  for (const heard of operator.heard) {
    const request = heard.response_to ?? '';
    if (!wanted.has(request)) continue;
    const known = answers.get(request);
    if (known === undefined) answers.set(request, [heard]);
    else known.push(heard);
  }
  return answers;
}

/**
 * The ledger of the operator's end: each message has an answer, with the content it was sent with, none is an error,
 * and an answer that came twice is the same one (same message_id). Returns how many came more than once.
 */
export function assertAllAnswered(
  operator: Operator,
  ids: readonly string[],
  content: (n: number) => unknown = (n) => n,
): number {
  const answers = answersTo(operator, ids);
  let duplicates = 0;
  for (const [n, id] of ids.entries()) {
    const all = answers.get(id) ?? [];
    assert.notEqual(all.length, 0, `message ${id} has no answer`);
    assert.equal(new Set(all.map((heard) => heard.message_id)).size, 1, `the answers to ${id} have several ids`);
    for (const heard of all) {
      assert.equal(heard.metadata?.['status'], undefined, `the answer to ${id} is an error: ${heard.raw}`);
      assert.deepEqual(heard.content, content(n), `the answer to ${id} has another content`);
    }
    duplicates += all.length - 1;
  }
  return duplicates;
}

/** Ids in the order in which the first answer to each came. */
export function orderOfAnswers(operator: Operator, ids: readonly string[]): string[] {
  return [...answersTo(operator, ids).keys()];
}

/** The p-th part (0 to 1) of measured values. */
export function percentile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
}

/** Sends one message after the other and waits for each answer; how long each took, in milliseconds. */
export async function roundTrips(operator: Operator, directive: string, count: number): Promise<number[]> {
  const spans: number[] = [];
  for (let n = 0; n < count; n++) {
    const started = performance.now();
    await operator.answerTo(await operator.send(directive, `${n}`));
    spans.push(performance.now() - started);
  }
  return spans;
}

/** `p50 1.2 ms, p95 3.4 ms, longest 5.6 ms`. */
export function describeSpans(spans: readonly number[]): string {
  const ms = (value: number): string => `${value.toFixed(1)} ms`;
  return `p50 ${ms(percentile(spans, 0.5))}, p95 ${ms(percentile(spans, 0.95))}, longest ${ms(percentile(spans, 1))}`;
}
