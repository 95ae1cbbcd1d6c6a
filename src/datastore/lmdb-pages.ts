/**
 * Reads the pages of an LMDB file by itself, since LMDB trusts its file: a page that points astray ends the process, at
 * each start anew (ADR 0006). `inspect` walks what the newest meta page holds and says what is wrong with it; what it
 * could reach is handed over in order, and what it could not is found by its page headers. It writes nothing.
 *
 * The layout is that of LMDB 0.9.90 as lmdb-js 3 has it, for 64-bit little-endian machines.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { NO_ROOT, treeFrom, type Tree } from './lmdb-tree.js';

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

/** Bytes of the head of a page, the head of an entry, and what describes a tree. */
const [HEADER, NODE, TREE] = [24, 8, 48];
const [BRANCH, LEAF, OVERFLOW, META] = [1, 2, 4, 8];
const [BIG, TABLE] = [1, 2];
const [MAGIC, VERSION] = [0xbeefc0de, 2];
const MAX_DEPTH = 32;
const PAGE_SIZES = [4096, 8192, 16_384, 32_768, 65_536];
const MAX_PROBLEMS = 20;

interface Meta {
  readonly main: Tree;
  readonly free: Tree;
  readonly lastPage: number;
  readonly written: bigint;
}

interface Node {
  readonly flags: number;
  readonly key: Buffer;
  readonly data: Buffer;
  readonly size: number;
  readonly child: number;
}

type Each = (node: Node, written: bigint, isInOrder: boolean) => void;

interface Count {
  branches: bigint;
  leaves: bigint;
  overflows: bigint;
  entries: bigint;
  last: Buffer | undefined;
}

/** What is wrong with a page; caught where the walk can go on beside it. */
class Damage extends Error {}

export class LmdbPages {
  readonly #fd: number;
  readonly #size: number;
  readonly #pageSize: number;
  readonly #pages: number;
  #problems: string[] = [];
  /** 1: used, 2: free. */
  #seen: Uint8Array;
  #lastPage = Infinity;

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
      const tables: { name: string; tree: Tree }[] = [];
      this.#walk('main', meta.main, (node) => {
        if ((node.flags & TABLE) === 0 || node.data.length !== TREE) throw new Damage('an entry that is no table');
        tables.push({ name: node.key.toString('latin1').replace(/\0$/, ''), tree: treeFrom(node.data) });
      });
      for (const { name, tree } of tables) {
        expected.set(name, Number(tree.entries));
        this.#walk(name, tree, (node, written, isInOrder) => {
          if ((node.flags & TABLE) !== 0) throw new Damage('a table within a table');
          // One that does not belong where it stands may be of another table.
          found?.({
            table: isInOrder ? name : undefined,
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
    for (let n = 0; n < Math.min(this.#countOf(page), this.#pageSize / 4); n++) {
      const entry = this.#attempt(`lost page ${number}`, () => {
        const node = this.#node(page, n, LEAF);
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
      .map((number) => this.#attempt(`meta page ${number}`, () => this.#readMeta(number)))
      .filter((meta) => meta !== undefined);
    if (first === undefined) return undefined;
    return second !== undefined && second.written > first.written ? second : first;
  }

  #readMeta(number: number): Meta {
    const page = this.#read(number);
    if (page.readUInt16LE(18) !== META) throw new Damage('it is not marked as one');
    if (page.readUInt32LE(HEADER) !== MAGIC) throw new Damage('it has another magic number');
    if (page.readUInt32LE(HEADER + 4) !== VERSION) throw new Damage('it is of another version of LMDB');
    const mapSize = page.readBigUInt64LE(HEADER + 16);
    const lastPage = page.readBigUInt64LE(HEADER + 24 + 2 * TREE);
    const written = page.readBigUInt64LE(HEADER + 32 + 2 * TREE);
    if (page.readUInt32LE(HEADER + 24) !== this.#pageSize) throw new Damage('it has another page size');
    if (mapSize < BigInt(this.#size - this.#pageSize) / 2n || mapSize > 2n ** 50n)
      throw new Damage('its map size is absurd');
    // Pages that were given back in the transaction that made them were never written.
    if (lastPage < 1n || lastPage > BigInt(this.#pages) + 65_536n) throw new Damage('its last page is absurd');
    return {
      free: treeFrom(page.subarray(HEADER + 24)),
      main: treeFrom(page.subarray(HEADER + 24 + TREE)),
      lastPage: Number(lastPage),
      written,
    };
  }

  /** Walks a tree; whether all of it was sound. What lies behind a damaged page is left out. */
  #walk(name: string, tree: Tree, each: Each): boolean {
    if (tree.root === NO_ROOT) return true;
    const before = this.#problems.length;
    const count: Count = { branches: 0n, leaves: 0n, overflows: 0n, entries: 0n, last: undefined };
    const isFree = name === 'free pages';
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
    try {
      if (depth < 1 || depth > MAX_DEPTH) throw new Damage('its tree has an absurd depth');
      const page = this.#read(number);
      // It is read all the same: what stands in it is judged by itself.
      this.#attempt(`page ${number} of table ${name}`, () => this.#checkNumber(page, number));
      const kind = page.readUInt16LE(18);
      if (kind !== (depth === 1 ? LEAF : BRANCH)) throw new Damage('it is not of the kind that its place asks for');
      this.#checkBounds(page);
      this.#mark(number, 1, 1);
      const entries = this.#countOf(page);
      if (kind === LEAF) {
        count.leaves += 1n;
        for (let n = 0; n < entries; n++) {
          this.#attempt(`page ${number} of table ${name}`, () => {
            const node = this.#node(page, n, kind);
            const { first, pages } = this.#checkOverflow(node);
            if (pages > 0) this.#mark(first, pages, 1);
            count.overflows += BigInt(pages);
            count.entries += 1n;
            const where = `page ${number} of table ${name}`;
            const isInOrder = this.#attempt(where, () => this.#checkOrder(node.key, count, from, to, isFree));
            each(node, page.readBigUInt64LE(8), isInOrder === true);
          });
        }
        return;
      }
      count.branches += 1n;
      const nodes = Array.from({ length: entries }, (_, n) =>
        this.#attempt(`page ${number} of table ${name}`, () => this.#node(page, n, kind)),
      );
      for (const [n, node] of nodes.entries()) {
        const low = n === 0 ? from : node?.key;
        const high = nodes[n + 1]?.key ?? to;
        if (node !== undefined) this.#descend(name, node.child, depth - 1, count, low, high, isFree, each);
      }
    } catch (error) {
      this.#problem(error, `page ${number} of table ${name}`);
    }
  }

  #checkOrder(key: Buffer, count: Count, from: Buffer | undefined, to: Buffer | undefined, isFree: boolean): true {
    const compare = (a: Buffer, b: Buffer): number =>
      isFree ? Number(a.readBigUInt64LE(0) - b.readBigUInt64LE(0)) : Buffer.compare(a, b);
    if (isFree && key.length !== 8) throw new Damage('a key that is no number');
    const { last } = count;
    if (last !== undefined && compare(last, key) >= 0) throw new Damage('its keys are out of order');
    if (from !== undefined && compare(key, from) < 0) throw new Damage('a key that belongs before it');
    if (to !== undefined && compare(key, to) >= 0) throw new Damage('a key that belongs behind it');
    count.last = key;
    return true;
  }

  /** The pages of a list of free ones: their count, then single pages, gaps (0), and lengths (negative) with a start. */
  #free(node: Node, newest: bigint): void {
    const by = node.key.length === 8 ? node.key.readBigUInt64LE(0) : 0n;
    if (by < 1n || by > newest) throw new Damage('free pages of a transaction that never was');
    const list = this.#valueOf(node);
    const count = list.length >= 8 ? list.readBigInt64LE(0) : -1n;
    if (count < 0n || count * 8n + 8n !== BigInt(list.length))
      throw new Damage('a list of free pages of a wrong length');
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

  #countOf(page: Buffer): number {
    return page.readUInt16LE(20) >> 1;
  }

  #checkBounds(page: Buffer): void {
    const lower = page.readUInt16LE(20);
    const upper = page.readUInt16LE(22);
    if (lower % 2 !== 0 || lower > upper || upper > this.#pageSize - HEADER || lower === 0)
      throw new Damage('its bounds are wrong');
  }

  #node(page: Buffer, n: number, kind: number): Node {
    if (HEADER + n * 2 + 2 > this.#pageSize) throw new Damage('it has more entries than room');
    const at = HEADER + page.readUInt16LE(HEADER + n * 2);
    if (at + NODE > this.#pageSize) throw new Damage('an entry out of its bounds');
    const size = page.readUInt16LE(at) + page.readUInt16LE(at + 2) * 65_536;
    const flags = page.readUInt16LE(at + 4);
    const keyEnd = at + NODE + page.readUInt16LE(at + 6);
    const inPage = kind === BRANCH ? 0 : (flags & BIG) !== 0 ? 24 : size;
    if (kind === LEAF && (flags & ~(BIG | TABLE)) !== 0) throw new Damage('an entry of an unknown kind');
    if (keyEnd + inPage > this.#pageSize) throw new Damage('an entry that is longer than its page');
    return {
      flags: kind === LEAF ? flags : 0,
      key: page.subarray(at + NODE, keyEnd),
      data: page.subarray(keyEnd, keyEnd + inPage),
      size,
      child: size + flags * 2 ** 32,
    };
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
    const first = Number(node.data.readBigUInt64LE(0));
    const pages = Math.ceil((HEADER + node.size) / this.#pageSize);
    const head = this.#page(first);
    if (head.readUInt16LE(18) !== OVERFLOW || head.readUInt32LE(20) !== pages)
      throw new Damage(`page ${first} does not begin the value of ${node.size} bytes it should`);
    if (first + pages > this.#pages) throw new Damage('a value that reaches beyond the file');
    if (Number(node.data.readBigUInt64LE(16)) !== pages) throw new Damage('a value of a wrong number of pages');
    return { first, pages };
  }

  #valueOf(node: Node): Buffer {
    if ((node.flags & BIG) === 0) return node.data;
    return this.#readAt(Number(node.data.readBigUInt64LE(0)) * this.#pageSize + HEADER, node.size);
  }

  #page(number: number): Buffer {
    const page = this.#read(number);
    this.#checkNumber(page, number);
    return page;
  }

  #checkNumber(page: Buffer, number: number): void {
    if (page.readBigUInt64LE(0) !== BigInt(number)) throw new Damage('it has the number of another page');
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
