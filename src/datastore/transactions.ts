/**
 * What is on its way to the journal. Changes of one turn of the event loop go in one transaction; while it is written,
 * those that come gather for the next. Whoever hands changes in is told by a call how they went: all of a transaction in
 * one turn, in the order they came; whoever wants a promise has one together with all others of the transaction. One for
 * each step of each message would cost more than the step.
 */
import type { Change, Table } from './journal.js';
import { deferred, nextTurn, type Deferred } from './promises.js';

/** Is told how a commit went, behind the turn that asked for it. Once, by one of the two. */
export interface Settler {
  done(): void;
  failed(error: unknown): void;
}

/** What a transaction is written with, and who hears of it before those that handed something in. */
export interface TransactionsPort {
  write(transaction: Transaction): Promise<void>;
  done(transaction: Transaction): void;
  failed(transaction: Transaction): void;
  /** A settler has thrown, which none should. */
  misled(error: unknown): void;
}

/** How long what is not urgent waits for a commit to ride with, or twice that. A matter of batching, so no test needs to hold it. */
const SOON_MS = 2;
const NO_CHANGES: readonly Change[] = [];

/** Changes that share their fate. */
export class Transaction {
  readonly changes: Change[] = [];
  readonly settlers: Settler[] = [];
  /** What the spool takes more or less. */
  growth = 0;
  isFreeing = false;
  /** Somebody waits for it. */
  isDue = false;
  /** How many changes were handed in; what the inventory adds when it is written stands behind them. */
  #given = 0;
  /** The latest change of each key, of the tables that somebody asked for; dropped with the transaction. */
  #latest: Partial<Record<Table, Latest>> = {};
  #end: Deferred | undefined;
  #isDurable: Promise<true> | undefined;

  add(changes: readonly Change[], growth: number, settler: Settler, more: readonly Change[]): void {
    for (const change of changes) this.changes.push(change);
    for (const change of more) this.changes.push(change);
    this.#given = this.changes.length;
    this.settlers.push(settler);
    this.growth += growth;
    if (growth < 0) this.isFreeing = true;
  }

  /** Settles when all settlers have been told. Ask for it in the turn in which something was handed in. */
  get durable(): Promise<void> {
    return (this.#end ??= deferred()).done;
  }

  /** As `durable`, for those who answer with it: one for all of them. */
  get isDurable(): Promise<true> {
    return (this.#isDurable ??= this.durable.then(() => true));
  }

  resolve(): void {
    this.#end?.resolve();
  }

  reject(error: unknown): void {
    this.#end?.reject(error);
  }

  find(table: Table, key: string): Change | undefined {
    const latest = (this.#latest[table] ??= { changes: new Map(), seen: 0 });
    for (; latest.seen < this.#given; latest.seen++) {
      const change = this.changes[latest.seen];
      if (change?.table === table) latest.changes.set(change.key, change);
    }
    return latest.changes.get(key);
  }
}

/** What was found in a transaction up to the change `seen`. */
interface Latest {
  readonly changes: Map<string, Change>;
  seen: number;
}

export class Transactions {
  #gathering: Transaction | undefined;
  #writing: Transaction | undefined;
  /** Runs while there is something due. */
  #writer: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly port: TransactionsPort) {}

  /** `more`: changes as well. Nobody has to make one list of two for that. */
  add(changes: readonly Change[], growth: number, settler: Settler, more: readonly Change[] = NO_CHANGES): Transaction {
    const transaction = this.#gather(changes, growth, settler, more);
    if (!transaction.isDue) this.#due(transaction);
    return transaction;
  }

  /** As `add`, for what nobody waits for: it rides with what comes next, or goes by itself a moment later. */
  addSoon(changes: readonly Change[], growth: number, settler: Settler): Transaction {
    const transaction = this.#gather(changes, growth, settler, NO_CHANGES);
    if (!transaction.isDue && this.#timer === undefined) this.#wait(transaction);
    return transaction;
  }

  /** Until it is due by itself. What rides with others leaves the timer alone: to set and clear one each time costs more. */
  #wait(transaction: Transaction): void {
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      const waiting = this.#gathering;
      if (waiting === undefined || waiting.isDue) return;
      if (waiting === transaction) this.#due(waiting);
      else this.#wait(waiting);
    }, SOON_MS);
  }

  /** The latest change of a key that the journal does not show yet. */
  find(table: Table, key: string): Change | undefined {
    return this.#gathering?.find(table, key) ?? this.#writing?.find(table, key);
  }

  /** Resolves when nothing is on its way any more. Never rejects: whoever handed something in is told. */
  async flush(): Promise<void> {
    for (;;) {
      if (this.#gathering?.isDue === false) this.#due(this.#gathering);
      if (this.#writer === undefined) break;
      await this.#writer;
    }
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #gather(changes: readonly Change[], growth: number, settler: Settler, more: readonly Change[]): Transaction {
    const transaction = (this.#gathering ??= new Transaction());
    transaction.add(changes, growth, settler, more);
    return transaction;
  }

  #due(transaction: Transaction): void {
    transaction.isDue = true;
    this.#writer ??= this.#writeAll();
  }

  /** One transaction after the other until nobody waits. */
  async #writeAll(): Promise<void> {
    // Whatever else this turn hands in goes along.
    await nextTurn();
    for (let next = this.#takeDue(); next !== undefined; next = this.#takeDue()) {
      this.#writing = next;
      try {
        await this.port.write(next);
        this.#writing = undefined;
        this.#done(next);
      } catch (error) {
        this.#writing = undefined;
        // Those that gathered behind it meanwhile may depend on it, or must not overtake it.
        this.#failed(error, next, this.#takeDue());
      }
    }
    this.#writer = undefined;
  }

  #takeDue(): Transaction | undefined {
    const transaction = this.#gathering;
    if (transaction?.isDue !== true) return undefined;
    this.#gathering = undefined;
    return transaction;
  }

  #done(transaction: Transaction): void {
    this.port.done(transaction);
    for (const settler of transaction.settlers) {
      try {
        settler.done();
      } catch (error) {
        // Whoever waits must not wait for ever; all others are told as well.
        this.#tell(settler, error);
        this.port.misled(error);
      }
    }
    transaction.resolve();
  }

  #failed(error: unknown, ...transactions: readonly (Transaction | undefined)[]): void {
    for (const transaction of transactions) if (transaction !== undefined) this.port.failed(transaction);
    for (const transaction of transactions) {
      for (const settler of transaction?.settlers ?? []) this.#tell(settler, error);
      transaction?.reject(error);
    }
  }

  #tell(settler: Settler, error: unknown): void {
    try {
      settler.failed(error);
    } catch (thrown) {
      this.port.misled(thrown);
    }
  }
}
