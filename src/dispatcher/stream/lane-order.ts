/**
 * Outcomes of one lane take effect in the order in which the worker sent them: one whose bodies are still on the way
 * holds back those behind it in its lane, and only those.
 */

/** An outcome that waits for what it still lacks, or for those before it. */
export interface Outcome {
  isReady: boolean;
  /** Makes it take effect. */
  run: () => void;
}

export class LaneOrder {
  readonly #lanes = new Map<string, Outcome[]>();

  /** No outcome waits. */
  get isIdle(): boolean {
    return this.#lanes.size === 0;
  }

  /** Adds an outcome behind those of its lane; it takes effect now when nothing holds it back. */
  add(lane: string, outcome: Outcome): void {
    const waiting = this.#lanes.get(lane);
    if (waiting !== undefined) waiting.push(outcome);
    else if (outcome.isReady) outcome.run();
    else this.#lanes.set(lane, [outcome]);
  }

  /** It has all it needs. */
  ready(lane: string, outcome: Outcome): void {
    outcome.isReady = true;
    this.#moveOn(lane);
  }

  /** It will never take effect: those behind it go on. */
  drop(lane: string, outcome: Outcome): void {
    const waiting = this.#lanes.get(lane);
    const index = waiting?.indexOf(outcome) ?? -1;
    if (index >= 0) waiting?.splice(index, 1);
    this.#moveOn(lane);
  }

  #moveOn(lane: string): void {
    const waiting = this.#lanes.get(lane);
    if (waiting === undefined) return;
    for (let head = waiting[0]; head?.isReady === true; head = waiting[0]) {
      waiting.shift();
      head.run();
    }
    // An outcome that ran may have done the same, and others may have come since.
    if (waiting.length === 0 && this.#lanes.get(lane) === waiting) this.#lanes.delete(lane);
  }
}
