/**
 * The runs of the handler, whichever transport brings the messages. At most `concurrency` at once; what waits starts
 * lane by lane in order. A message that comes again while its handler runs (the agent went away and came back) joins
 * that run instead of starting a second one; so does one whose handler is done but whose receipt got lost.
 */
import type { Data } from '../../protocol/generated/yggdrasil.js';
import { errorText } from '../errors.js';
import type { Log } from '../log/log.js';
import type { Clock, Millis } from '../time.js';
import { AgentLost, type Delivery, type IncomingBody } from './delivery.js';
import { Lanes } from './lanes.js';
import { Cancelled, type Handler, Run, type RunOwner } from './run.js';

export interface RunsOptions {
  readonly handler: Handler;
  readonly concurrency: number;
  /** Large contents are given to the handler as streams. */
  readonly isStreaming: boolean;
  readonly log: Log;
  readonly clock: Clock;
  /** Ends the timers. */
  readonly scope: AbortSignal;
  /** Hands a reply over while its handler runs; resolves when it is on stable storage. */
  readonly send: (data: Data) => Promise<void>;
}

/** How long the outcome of a run is kept whose receipt may have got lost. An agent delivers again at once. */
const KEPT: Millis = 60_000;
/** After so many a Map is made anew: an old one keeps what it held from being collected (signal/slot-table.ts). */
const MOST_FORGOTTEN = 1_024;

export class Runs implements RunOwner {
  readonly log: Log;
  readonly handler: Handler;
  readonly isStreaming: boolean;
  #stopReason: Error | undefined;
  /** By message id. */
  #runs = new Map<string, Run>();
  /** How many left it since it was new. */
  #forgotten = 0;
  readonly #running: Run[] = [];
  readonly #waiting = new Lanes<Run>();
  readonly #collecting = new WeakSet<IncomingBody>();
  readonly #collected = new WeakMap<Run, Buffer>();
  #isInLoop = false;
  /** The one whose handler is being called. */
  #starting: Run | undefined;
  #free: number;
  #onIdle: (() => void) | undefined;

  constructor(private readonly options: RunsOptions) {
    this.log = options.log;
    this.handler = options.handler;
    this.isStreaming = options.isStreaming;
    this.#free = options.concurrency;
  }

  get stopReason(): Error | undefined {
    return this.#stopReason;
  }

  /** Runs the handler for it when its turn comes, and answers it. The run it gets; undefined where it was refused. */
  take(delivery: Delivery): Run | undefined {
    const { data, priority } = delivery;
    if (this.#stopReason !== undefined) {
      delivery.refuse('unavailable', this.#stopReason.message);
      return undefined;
    }
    const known = this.#runs.get(data.messageId);
    if (known !== undefined) {
      known.join(delivery);
      return known;
    }
    const run = new Run(delivery, this);
    if (this.#free > 0 && this.#waiting.size === 0 && (delivery.body === undefined || this.isStreaming)) {
      this.#start(run, data.content);
    } else {
      this.#remember(run);
      this.#waiting.add(priority, run);
      this.#next();
    }
    return run;
  }

  /** The sender wants it given up: what waits is given back, a handler that runs is told by its signal. */
  cancel(run: Run): void {
    const reason = new Cancelled('the message was cancelled by its sender');
    if (!run.isQueued) run.abort(reason);
    else {
      this.#waiting.prune((queued) => queued === run);
      run.refuse('cancelled', reason.message);
      this.#next(); // What it held up.
    }
  }

  /** These deliveries are void: their transport is gone. What has not begun is forgotten, the rest goes on. */
  lose(lost: Iterable<{ readonly run: Run; readonly delivery: Delivery }>): void {
    const orphans = new Set<Run>();
    for (const { run, delivery } of lost) {
      run.lose(delivery);
      if (run.isOrphan) orphans.add(run);
    }
    this.#waiting.prune((run) => orphans.has(run));
    for (const run of orphans) {
      if (run.isQueued) run.forget();
      else if (run.isCompleted) this.kept(run);
    }
    this.#next();
  }

  /**
   * Tells the handlers to finish, gives back what waits, and resolves when the last handler has ended and its outcome
   * is handed over. Idempotent.
   */
  async stop(reason: Error): Promise<void> {
    this.#stopReason ??= reason;
    for (const run of this.#running) run.abort(reason);
    const waiting: Run[] = [];
    this.#waiting.prune((run) => waiting.push(run) > 0);
    for (const run of waiting) run.refuse('unavailable', reason.message);
    if (this.#running.length > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve));
  }

  send(data: Data): Promise<void> {
    return this.options.send(data);
  }

  released(run: Run): void {
    if (run === this.#starting) this.#starting = undefined;
    else removeFrom(this.#running, run);
    this.#free += 1;
    // A message whose completion is on its way comes again only when that is lost: then it is kept.
    this.#forget(run);
    if (this.#running.length === 0) this.#onIdle?.();
    if (!this.#isInLoop) this.#next();
  }

  kept(run: Run): void {
    this.#remember(run);
    const { clock, scope } = this.options;
    clock.after(KEPT, () => run.isOrphan && run.forget(), scope);
  }

  ended(run: Run): void {
    this.#forget(run);
  }

  #remember(run: Run): void {
    if (run.data.messageId !== '') this.#runs.set(run.data.messageId, run);
  }

  #forget(run: Run): void {
    if (this.#runs.size === 0 || this.#runs.get(run.data.messageId) !== run) return;
    this.#runs.delete(run.data.messageId);
    this.#forgotten += 1;
    if (this.#forgotten < MOST_FORGOTTEN) return;
    this.#runs = new Map(this.#runs);
    this.#forgotten = 0;
  }

  #start(run: Run, content: Buffer): void {
    this.#free -= 1;
    // A handler that returns at once releases its place before the call below is over; the loop that called sees it.
    // It never stands in the books, which cost more than it does.
    const wasInLoop = this.#isInLoop;
    this.#isInLoop = true;
    this.#starting = run;
    run.start(content);
    this.#isInLoop = wasInLoop;
    if (this.#isReleased(run)) return;
    this.#starting = undefined;
    this.#running.push(run);
    this.#remember(run);
  }

  /** A call, since the compiler would hold `#starting` to what it was before. */
  #isReleased(run: Run): boolean {
    return this.#starting !== run;
  }

  /** Starts what may start. */
  #next(): void {
    while (this.#free > 0) {
      const run = this.#waiting.take((first) => this.#isReady(first));
      if (run === undefined) return;
      this.#start(run, this.#collected.get(run) ?? run.data.content);
    }
  }

  /** A message whose content is to be collected first is ready when that is done; asking begins it. */
  #isReady(run: Run): boolean {
    const body = run.first?.body;
    if (body === undefined || this.isStreaming || this.#collected.has(run)) return true;
    if (this.#collecting.has(body)) return false;
    this.#collecting.add(body);
    body.collect().then(
      (content) => {
        if (!run.isQueued) return;
        this.#collected.set(run, content);
        this.#next();
      },
      (error: unknown) => {
        // Gone with its transport: the message comes again.
        if (!run.isQueued || run.isOrphan || error instanceof AgentLost) return;
        this.#waiting.prune((queued) => queued === run);
        run.refuse('failed', `the content did not come whole: ${errorText(error)}`);
        this.#next();
      },
    );
    return false;
  }
}

function removeFrom(runs: Run[], run: Run): void {
  const at = runs.indexOf(run);
  if (at < 0) return;
  const last = runs.pop();
  if (at < runs.length && last !== undefined) runs[at] = last;
}
