/**
 * Reads the pages of an LMDB file by itself, since LMDB trusts its file: a page that points astray ends the process, at
 * each start anew (ADR 0006). `inspect` walks what the newest meta page holds and says what is wrong with it; what it
 * could reach is handed over in order, and what it could not is found by its page headers. It writes nothing.
 *
 * The layout is that of LMDB 0.9.90 as lmdb-js 3 has it, for 64-bit little-endian machines.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import {
  BIG,
  BRANCH,
  checkBounds,
  checkPacking,
  Damage,
  dataOf,
  entryCount,
  HEADER,
  LEAF,
  MAGIC,
  NODE,
  nodeOf,
  OVERFLOW,
  TABLE,
  TREE,
  VERSION,
  type Node,
} from './lmdb-node.js';
import { metaFrom, NO_ROOT, NUMBERS, treeFrom, type Meta, type Tree } from './lmdb-tree.js';

/** A key and its value in one of the named tables; `table` is undefined where that is not known any more. */
export interface Found {
  readonly table: string | undefined;
  readonly key: string;
  readonly value: Buffer;
  /** The transaction that wrote its page: of two values of one key the newer counts. */
  readonly written: bigint;
}

export interface Inspection {
  /** What is wrong, in the order it was met; empty when the file is sound. */
  readonly problems: readonly string[];
  /** How many entries each table should have, where that is known. */
  readonly expected: ReadonlyMap<string, number>;
  /** Pages that nothing leads to any more and that are not free: parts of what is damaged. */
  readonly lost: readonly number[];
}

const MAX_DEPTH = 32;
const PAGE_SIZES = [4096, 8192, 16_384, 32_768, 65_536];
const MAX_PROBLEMS = 20;
/** A transaction no page can be of. */
const UNKNOWN = 2n ** 64n - 1n;

type Each = (node: Node, written: bigint, isInOrder: boolean) => void;

interface Count {
  branches: bigint;
  leaves: bigint;
  overflows: bigint;
  entries: bigint;
  last: Buffer | undefined;
}

export class LmdbPages {
  readonly #fd: number;
  readonly #size: number;
  readonly #pageSize: number;
  readonly #pages: number;
  #problems: string[] = [];
  /** 1: used, 2: free. */
  #seen: Uint8Array;
  #lastPage = Infinity;
  /** The last transaction. A page of a later one LMDB takes for a copy that it made itself and may write to. */
  #newest = UNKNOWN;

  /** Opens `file` for reading; `close` closes it. */
  constructor(file: string) {
    this.#fd = openSync(file, 'r');
    this.#size = fstatSync(this.#fd).size;
    this.#pageSize = this.#findPageSize();
    this.#pages = Math.floor(this.#size / this.#pageSize);
    this.#seen = new Uint8Array(this.#pages);
  }

  close(): void {
    closeSync(this.#fd);
  }

  /** Whether it was written by this kind of LMDB, as far as its meta pages still tell: else this must not judge it. */
  get isOurs(): boolean {
    return [0, this.#pageSize].some((at) => {
      const page = this.#readAt(at, HEADER + NODE);
      return page.readUInt32LE(HEADER) !== MAGIC || page.readUInt32LE(HEADER + 4) === VERSION;
    });
  }

  /** Walks everything; `found` is told of each entry of each table that could be reached. */
  inspect(found?: (entry: Found) => void): Inspection {
    this.#problems = [];
    this.#seen = new Uint8Array(this.#pages);
    const meta = this.#meta();
    const expected = new Map<string, number>();
    let lost: readonly number[] | undefined;
    if (meta !== undefined) {
      this.#lastPage = meta.lastPage;
      this.#newest = meta.written;
      const tables: { name: string; tree: Tree }[] = [];
      this.#walk('main', meta.main, (node) => {
        if ((node.flags & TABLE) === 0 || dataOf(node).length !== TREE) throw new Damage('an entry that is no table');
        tables.push({ name: node.key.toString('latin1').replace(/\0$/, ''), tree: treeFrom(dataOf(node)) });
      });
      for (const { name, tree } of tables) {
        expected.set(name, Number(tree.entries));
        this.#walk(name, tree, (node, written, isInOrder) => {
          if ((node.flags & TABLE) !== 0) throw new Damage('a table within a table');
          const isOurs = isPrintable(node.key);
          if (!isOurs) this.#problem(new Damage('a key that none of ours can be'), `table ${name}`);
          // One that does not belong where it stands may be of another table.
          found?.({
            table: isInOrder && isOurs ? name : undefined,
            key: node.key.toString('utf8'),
            value: this.#valueOf(node),
            written,
          });
        });
      }
      const isWhole = this.#problems.length === 0;
      this.#walk('free pages', meta.free, (node) => this.#free(node, meta.written));
      // What is not reached is free then, whatever the list of free pages says.
      if (isWhole) lost = [];
      if (this.#problems.length === 0 && this.#unseen().length > 0)
        this.#problem(new Damage('they are neither used nor free'), `pages ${this.#unseen().slice(0, 9).join(', ')}`);
    }
    return { problems: this.#problems, expected, lost: lost ?? this.#unseen() };
  }

  /** The entries of a page that nothing leads to, if it is a leaf; those that can be read. */
  *entriesOf(number: number): Generator<Found> {
    const page = this.#read(number);
    const isItself = page.readBigUInt64LE(0) === BigInt(number);
    if (page.readUInt16LE(18) !== LEAF && !(isItself && ![BRANCH, OVERFLOW].includes(page.readUInt16LE(18)))) return;
    for (let n = 0; n < Math.min(entryCount(page), this.#pageSize / 4); n++) {
      const entry = this.#attempt(`lost page ${number}`, () => {
        const node = nodeOf(page, n, LEAF, this.#pageSize);
        this.#checkOverflow(node);
        return {
          table: undefined,
          key: node.key.toString('utf8'),
          value: this.#valueOf(node),
          written: page.readBigUInt64LE(8),
        };
      });
      if (entry !== undefined && entry.key !== '') yield entry;
    }
  }

  #unseen(): number[] {
    const lost: number[] = [];
    for (let number = 2; number < Math.min(this.#pages, this.#lastPage + 1); number++)
      if (this.#seen[number] === 0) lost.push(number);
    return lost;
  }

  /** The meta page that LMDB will take, or undefined when that cannot be told. */
  #meta(): Meta | undefined {
    const [first, second] = [0, 1]
      .map((number) =>
        this.#attempt(`meta page ${number}`, () => metaFrom(this.#read(number), this.#size, this.#pageSize)),
      )
      .filter((meta) => meta !== undefined);
    if (first === undefined) return undefined;
    // Of two transactions in a row, or of one where the file is a copy: else the one that counts is not the newest.
    if (second !== undefined && Math.abs(Number(second.written - first.written)) > 1)
      this.#problem(new Damage('they are not of one transaction and the next'), 'meta pages');
    return second !== undefined && second.written > first.written ? second : first;
  }

  /** Walks a tree; whether all of it was sound. What lies behind a damaged page is left out. */
  #walk(name: string, tree: Tree, each: Each): boolean {
    const isFree = name === 'free pages';
    this.#attempt(`table ${name}`, () => {
      if (tree.flags !== (isFree ? NUMBERS : 0) || tree.pad !== (isFree ? this.#pageSize : 0))
        throw new Damage('its keys are of another kind');
    });
    if (tree.root === NO_ROOT) return true;
    const before = this.#problems.length;
    const count: Count = { branches: 0n, leaves: 0n, overflows: 0n, entries: 0n, last: undefined };
    this.#descend(name, Number(tree.root), tree.depth, count, undefined, undefined, isFree, each);
    const isCounted =
      count.branches === tree.branches &&
      count.leaves === tree.leaves &&
      count.overflows === tree.overflows &&
      count.entries === tree.entries;
    if (this.#problems.length === before && !isCounted)
      this.#problem(new Damage('its counts are wrong'), `table ${name}`);
    return this.#problems.length === before;
  }

  #descend(
    name: string,
    number: number,
    depth: number,
    count: Count,
    from: Buffer | undefined,
    to: Buffer | undefined,
    isFree: boolean,
    each: Each,
  ): void {
    const where = `page ${number} of table ${name}`;
    try {
      if (depth < 1 || depth > MAX_DEPTH) throw new Damage('its tree has an absurd depth');
      const page = this.#read(number);
      // It is read all the same: what stands in it is judged by itself.
      this.#attempt(where, () => this.#checkHead(page, number));
      const kind = page.readUInt16LE(18);
      if (kind !== (depth === 1 ? LEAF : BRANCH)) throw new Damage('it is not of the kind that its place asks for');
      checkBounds(page, this.#pageSize);
      this.#mark(number, 1, 1);
      this.#attempt(where, () => checkPacking(page, kind, this.#pageSize));
      const entries = entryCount(page);
      if (kind === LEAF) {
        this.#readLeaf(
          page,
          where,
          count,
          (key) => {
            this.#checkOrder(key, count, from, to, isFree);
          },
          each,
        );
        return;
      }
      count.branches += 1n;
      const nodes = Array.from({ length: entries }, (_, n) =>
        this.#attempt(where, () => nodeOf(page, n, kind, this.#pageSize)),
      );
      for (const [n, node] of nodes.entries()) {
        const low = n === 0 ? from : node?.key;
        const high = nodes[n + 1]?.key ?? to;
        if (node !== undefined) this.#descend(name, node.child, depth - 1, count, low, high, isFree, each);
      }
    } catch (error) {
      this.#problem(error, where);
    }
  }

  /** The entries of a leaf, each by itself; without closures of its own for each, since there may be millions. */
  #readLeaf(page: Buffer, where: string, count: Count, checkOrder: (key: Buffer) => void, each: Each): void {
    const entries = entryCount(page);
    const written = page.readBigUInt64LE(8);
    let sound = 0;
    for (let n = 0; n < entries; n++) {
      try {
        const node = nodeOf(page, n, LEAF, this.#pageSize);
        if ((node.flags & BIG) !== 0) {
          const { first, pages } = this.#checkOverflow(node);
          this.#mark(first, pages, 1);
          count.overflows += BigInt(pages);
        }
        sound += 1;
        let isInOrder = true;
        try {
          checkOrder(node.key);
        } catch (error) {
          this.#problem(error, where);
          isInOrder = false;
        }
        each(node, written, isInOrder);
      } catch (error) {
        this.#problem(error, where);
      }
    }
    count.leaves += 1n;
    count.entries += BigInt(sound);
  }

  #checkOrder(key: Buffer, count: Count, from: Buffer | undefined, to: Buffer | undefined, isFree: boolean): void {
    const compare = isFree ? compareNumbers : compareBytes;
    if (isFree && key.length !== 8) throw new Damage('a key that is no number');
    const { last } = count;
    if (last !== undefined && compare(last, key) >= 0) throw new Damage('its keys are out of order');
    if (from !== undefined && compare(key, from) < 0) throw new Damage('a key that belongs before it');
    if (to !== undefined && compare(key, to) >= 0) throw new Damage('a key that belongs behind it');
    count.last = key;
  }

  /** The pages of a list of free ones: their count, then single pages, gaps (0), and lengths (negative) with a start. */
  #free(node: Node, newest: bigint): void {
    const by = node.key.length === 8 ? node.key.readBigUInt64LE(0) : 0n;
    if (by < 1n || by > newest) throw new Damage('free pages of a transaction that never was');
    const list = this.#valueOf(node);
    const count = list.length >= 8 ? list.readBigInt64LE(0) : -1n;
    // LMDB may have made room for one more than it came to write.
    if (count < 0n || count * 8n + 8n > BigInt(list.length)) throw new Damage('a list of free pages of a wrong length');
    for (let n = 1; n <= Number(count); n++) {
      const entry = list.readBigInt64LE(n * 8);
      if (entry === 0n) continue;
      if (entry > 0n) this.#mark(Number(entry), 1, 2);
      else if (n < Number(count)) {
        n += 1;
        this.#mark(Number(list.readBigInt64LE(n * 8)), Number(-entry), 2);
      } else throw new Damage('a list of free pages that breaks off');
    }
  }

  #mark(from: number, count: number, as: 1 | 2): void {
    if (from < 2 || count < 1 || from + count - 1 > this.#lastPage)
      throw new Damage(`it names page ${from} of ${this.#lastPage}`);
    for (let number = from; number < from + count && number < this.#pages; number++) {
      if (this.#seen[number] !== 0) throw new Damage(`page ${number} is used twice`);
      this.#seen[number] = as;
    }
  }

  /** Does a part of the work that may meet damage and go on beside it. */
  #attempt<T>(where: string, work: () => T): T | undefined {
    try {
      return work();
    } catch (error) {
      this.#problem(error, where);
      return undefined;
    }
  }

  /** Where the pages of a large value are, once they were found to be what the entry says. */
  #checkOverflow(node: Node): { readonly first: number; readonly pages: number } {
    if ((node.flags & BIG) === 0) return { first: 0, pages: 0 };
    const first = Number(dataOf(node).readBigUInt64LE(0));
    const pages = Number(dataOf(node).readBigUInt64LE(16));
    const head = this.#page(first);
    if (head.readUInt16LE(18) !== OVERFLOW || head.readUInt32LE(20) !== pages)
      throw new Damage(`page ${first} does not begin the value of ${pages} pages it should`);
    if (first + pages > this.#pages) throw new Damage('a value that reaches beyond the file');
    // More than it needs where it was written a second time, shorter, in the transaction that made it.
    if (HEADER + node.size > pages * this.#pageSize) throw new Damage('a value that is longer than its pages');
    return { first, pages };
  }

  #valueOf(node: Node): Buffer {
    if ((node.flags & BIG) === 0) return dataOf(node);
    return this.#readAt(Number(dataOf(node).readBigUInt64LE(0)) * this.#pageSize + HEADER, node.size);
  }

  #page(number: number): Buffer {
    const page = this.#read(number);
    this.#checkHead(page, number);
    return page;
  }

  #checkHead(page: Buffer, number: number): void {
    if (page.readBigUInt64LE(0) !== BigInt(number)) throw new Damage('it has the number of another page');
    if (page.readBigUInt64LE(8) > this.#newest) throw new Damage('it is of a transaction that never was');
  }

  #read(number: number): Buffer {
    if (!(number >= 0 && number < this.#pages)) throw new Damage('it lies beyond the file');
    return this.#readAt(number * this.#pageSize, this.#pageSize);
  }

  #readAt(at: number, length: number): Buffer {
    const bytes = Buffer.alloc(length);
    readSync(this.#fd, bytes, 0, length, at);
    return bytes;
  }

  /** That of the machine which wrote it: each meta page says it, and the second tells it by its place. */
  #findPageSize(): number {
    const said = (at: number): number => this.#readAt(at, HEADER + 28).readUInt32LE(HEADER + 24);
    const isMeta = (at: number): boolean => this.#readAt(at, HEADER + NODE).readUInt32LE(HEADER) === MAGIC;
    return (
      PAGE_SIZES.find((size) => isMeta(size) && said(size) === size) ??
      PAGE_SIZES.find((size) => said(0) === size) ??
      4096
    );
  }

  #problem(error: unknown, where: string): void {
    if (!(error instanceof Damage)) throw error;
    if (this.#problems.length < MAX_PROBLEMS) this.#problems.push(`${where}: ${error.message}`);
  }
}

/** Whether a key is one of ours: printable ASCII (keys.ts), which lmdb-js reads back as the text that it is. */
function isPrintable(key: Buffer): boolean {
  return key.length > 0 && key.every((byte) => byte >= 0x20 && byte < 0x7f);
}

function compareNumbers(a: Buffer, b: Buffer): number {
  return Number(a.readBigUInt64LE(0) - b.readBigUInt64LE(0));
}

function compareBytes(a: Buffer, b: Buffer): number {
  return a.compare(b);
}
