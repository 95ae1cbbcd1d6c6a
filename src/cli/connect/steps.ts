/** What is done, told as it is done: a line for each step, or with --json one document at the end, also of a failure. */
import { AgentError, errorText } from '../../errors.js';
import type { Output } from '../output.js';
import { Interrupted } from './interrupt.js';

export type Outcome = 'done' | 'unchanged' | 'warning' | 'failed';

interface Step {
  readonly step: string;
  readonly outcome: Outcome;
  readonly text: string;
}

export class Steps {
  readonly #steps: Step[] = [];

  constructor(
    private readonly output: Output,
    private readonly isJson: boolean,
  ) {}

  tell(step: string, text: string, outcome: Outcome = 'done'): void {
    this.#steps.push({ step, outcome, text });
    if (this.isJson) return;
    const shown = outcome === 'warning' || outcome === 'failed' ? `${outcome}: ${text}` : text;
    for (const [index, line] of shown.split('\n').entries())
      this.output.fields([[(index === 0 ? step : '').padEnd(this.output.isTerminal ? WIDTH : 0), line]]);
  }

  /** What went wrong and did not end the work. */
  get failed(): readonly string[] {
    return this.#steps.flatMap(({ step, outcome }) => (outcome === 'failed' ? [step] : []));
  }

  /** Does a step whose failure keeps no other from being done. */
  async attempt(step: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (error instanceof Interrupted) throw error;
      this.tell(step, errorText(error), 'failed');
    }
  }

  /** Does all of it; with --json tells at the end what was done, and what ended it. */
  async report(work: () => Promise<Readonly<Record<string, unknown>>>): Promise<void> {
    let more: Readonly<Record<string, unknown>> = {};
    try {
      more = await work();
    } catch (error) {
      if (!(error instanceof AgentError)) throw error;
      more = { error: { code: error.code, text: error.message } };
      throw error;
    } finally {
      if (this.isJson) this.output.json({ ...more, steps: this.#steps });
    }
  }
}

/** Of the longest name of a step. */
const WIDTH = 'registration'.length;
