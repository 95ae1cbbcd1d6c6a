/**
 * What is known of ids that have ended, for a journal: entries come in the order of the commits and are never changed
 * nor removed by themselves. They stand in pages, and a page is forgotten as a whole. So an id costs no way down a tree
 * when it is remembered, nor one when it is forgotten, and outside of the heap four bytes and a slot of the index.
 */
import {
  forEachEntry,
  entriesOf,
  entryLength,
  MOST_BYTES,
  MOST_ENTRIES,
  PageBuilder,
  sealed,
  startOf,
  valueAt,
} from './past-page.js';
import { PastIndex, Prints } from './past-index.js';
import type { Change, PastPage, Value } from './journal.js';
import { padded, PAGES } from './keys.js';

/** Where pages are when they are not in memory. */
export interface PageSource {
  /** The names of all pages, in order. */
  names(): Iterable<string>;
  /** A copy of a page. */
  read(name: string): Buffer | undefined;
  /** A page is damaged: the ids in it are unknown. */
  damaged(name: string): void;
}

interface Page {
  /** Counts up; what the index knows it by. */
  readonly number: number;
  /** Its key among the pages that are stored; empty before it has one. */
  readonly name: string;
  count: number;
  /** What the index has of its keys; undefined until it has them. */
  prints: Uint32Array | undefined;
  /** What it holds, while it is not stored. */
  readonly unstored: PageBuilder | undefined;
  /** The value of its last entry, once somebody asked. */
  newest: Buffer | undefined;
}

/** Pages that are to be stored, and the place of the first of them: of a commit, behind its other pages. */
interface Taken {
  readonly pages: readonly Page[];
  readonly number: number;
  readonly part: number;
}

/** Pages that go to where they are stored, and what becomes of them. */
export interface Storing {
  readonly changes: readonly Change[];
  /**
   * They are stored. Gives the removal of those that they stand for: not in one transaction with them, since a reader must
   * not look for a page that is gone while nobody was told yet.
   */
  done(): readonly Change[];
}

const NOTHING: Storing = { changes: [], done: () => [] };

export class PastPages {
  readonly #prints = new Prints();
  #index = new PastIndex();
  /** Stored ones, the oldest first, and behind them those that are to be stored. */
  #pages: Page[] = [];
  /** The last of them, while entries are added to it. */
  #open: (Page & { readonly unstored: PageBuilder }) | undefined;
  /** What was taken last, until it is stored. */
  #taken: Taken | undefined;
  #next = 1;
  #count = 0;
  /** Bytes of entries that were added since the last `take`. */
  #bytes = 0;
  #added = 0;
  #isRead = false;
  /** The page that was read last. */
  #last: { readonly name: string; readonly entries: Buffer } | undefined;

  constructor(private readonly source: PageSource) {}

  /** Nothing is known any more. */
  clear(): void {
    this.#index = new PastIndex();
    this.#pages = [];
    this.#open = this.#taken = this.#last = undefined;
    this.#count = this.#bytes = this.#added = 0;
    this.#isRead = true;
  }

  /** Takes stock of what is stored; its keys are read when somebody asks for one. */
  load(): void {
    this.clear();
    for (const name of this.source.names()) {
      const count = countIn(name);
      const page = { number: this.#next++, name, count, prints: undefined, unstored: undefined, newest: undefined };
      this.#pages.push(page);
      this.#count += count;
    }
    this.#isRead = this.#pages.length === 0;
  }

  get count(): number {
    return this.#count;
  }

  /** Entries, and bytes of them, that were added since the last `take`. */
  get added(): { readonly entries: number; readonly bytes: number } {
    return { entries: this.#added, bytes: this.#bytes };
  }

  add(key: string, value: Value): void {
    const length = entryLength(key, value);
    const open = this.#open?.unstored.hasRoom(length) === true ? this.#open : this.#begin(length);
    const print = this.#prints.of(key);
    open.unstored.add(key, value, print);
    this.#index.add(print, open.number);
    open.count += 1;
    this.#count += 1;
    this.#added += 1;
    this.#bytes += length;
  }

  #begin(length: number): Page & { readonly unstored: PageBuilder } {
    const unstored = new PageBuilder(length);
    this.#open = { number: this.#next++, name: '', count: 0, prints: undefined, unstored, newest: undefined };
    this.#pages.push(this.#open);
    return this.#open;
  }

  /** The latest value of a key: a copy. */
  get(key: string): Buffer | undefined {
    if (!this.#isRead) this.#readAll();
    const print = this.#prints.of(key);
    for (let page = this.#index.newest(print, Infinity); page !== 0; page = this.#index.newest(print, page)) {
      const found = this.#latestIn(page, print, key);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #latestIn(number: number, print: number, key: string): Buffer | undefined {
    const page = this.#pages.find((each) => each.number === number);
    const entries = page === undefined ? EMPTY : this.#entriesOf(page);
    if (page === undefined || entries.length === 0) return undefined;
    const { unstored } = page;
    const prints = printsOf(page);
    for (let at = prints.lastIndexOf(print); at >= 0; at = prints.subarray(0, at).lastIndexOf(print)) {
      const found = valueAt(entries, unstored?.starts[at] ?? startOf(entries, at), key);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** The pages that are stored, the oldest first. */
  *stored(): Generator<PastPage> {
    for (const page of [...this.#pages]) {
      if (page.unstored !== undefined) return;
      const newest = (page.newest ??= Buffer.from(this.#valuesOf(page).at(-1) ?? EMPTY));
      yield { name: page.name, count: page.count, newest, values: () => this.#valuesOf(page) };
    }
  }

  /** Forgets a page, if it is there. */
  drop(name: string): void {
    const at = this.#pages.findIndex((page) => page.name === name);
    const page = this.#pages[at];
    if (page === undefined) return;
    this.#pages.splice(at, 1);
    this.#count -= page.count;
    this.#leave(page);
  }

  /** What was added until now is what the next `storing` stores. `number`: of the last commit in it, which counts up. */
  take(number: number): void {
    const last = placeIn(this.#pages.findLast(({ name }) => name !== '')?.name ?? '');
    this.#open = undefined;
    const pages = this.#pages.filter(({ name }) => name === '');
    // Behind all that is stored: a checkpoint that was cut off may have left pages of this number, and where the journal
    // had to be made anew it counts from 1 again. Here and not in `storing`, before any of those could be forgotten: a
    // name must not come again while the log may hold that it is to be removed.
    this.#taken =
      number > last.number ? { pages, number, part: 0 } : { pages, number: last.number, part: last.part + 1 };
    this.#added = this.#bytes = 0;
  }

  /** How what was taken is stored. Of few entries those before them come along, so that no page has few for long. */
  storing(): Storing {
    const { pages = [], number = 0, part = 0 } = this.#taken ?? {};
    const [first] = pages;
    if (first === undefined) return NOTHING;
    const before = pages.length > 1 ? [] : this.#smallBefore(first);
    const groups = pages.length > 1 ? pages.map((page) => [page]) : [[...before, first]];
    const stored = groups.map((group, at) => this.#joined(group, nameOf(number, part + at, countOf(group))));
    return {
      changes: stored.map(({ page, bytes }): Change => ({ table: 'past', key: page.name, value: bytes })),
      done: () => {
        this.#stored(groups, stored);
        return before.map(({ name }): Change => ({ table: 'past', key: name, value: undefined }));
      },
    };
  }

  #stored(groups: readonly (readonly Page[])[], stored: readonly { readonly page: Page }[]): void {
    this.#taken = undefined;
    for (const [n, group] of groups.entries()) {
      const page = stored[n]?.page;
      // What was forgotten meanwhile is there again, and forgotten with the rest of its page.
      for (const old of group) {
        const at = this.#pages.indexOf(old);
        if (at >= 0) this.#pages.splice(at, 1);
        else this.#count += old.count;
        if (old.number !== page?.number) this.#leave(old);
      }
      if (page === undefined) continue;
      const behind = this.#pages.findIndex(({ number }) => number > page.number);
      this.#pages.splice(behind < 0 ? this.#pages.length : behind, 0, page);
      for (const print of page.prints ?? []) this.#index.add(print, page.number);
    }
  }

  /** The pages at the end of those that are stored which one more page and they together would make one of. */
  #smallBefore(page: Page): Page[] {
    const before: Page[] = [];
    let count = page.count;
    let bytes = page.unstored?.entries.length ?? 0;
    for (let at = this.#pages.indexOf(page) - 1; at >= 0; at--) {
      const old = this.#pages[at];
      // One that is damaged, or has another number of entries than its name says.
      if (old?.prints?.length !== old?.count) break;
      // Each is joined with as many as it has itself, so that an entry is written again no more than ten times.
      if (old === undefined || old.count > count || count + old.count > MOST_ENTRIES) break;
      const { length } = this.#read(old);
      if (length === 0 || bytes + length > MOST_BYTES) break;
      count += old.count;
      bytes += length;
      before.unshift(old);
    }
    return before;
  }

  #joined(group: readonly Page[], name: string): { readonly page: Page; readonly bytes: Buffer } {
    const parts = group.map((page) => this.#entriesOf(page));
    const prints = new Uint32Array(countOf(group));
    let at = 0;
    for (const page of group) {
      prints.set(printsOf(page), at);
      at += page.count;
    }
    const number = group.at(-1)?.number ?? 0;
    const page = { number, name, count: prints.length, prints, unstored: undefined, newest: undefined };
    return { page, bytes: sealed(parts) };
  }

  #leave(page: Page): void {
    for (const print of printsOf(page)) this.#index.remove(print, page.number);
  }

  #entriesOf(page: Page): Buffer {
    return page.unstored?.entries ?? this.#read(page);
  }

  #valuesOf(page: Page): readonly Buffer[] {
    const entries = this.#read(page);
    const values: Buffer[] = [];
    forEachEntry(entries, (_, valueAt, end) => values.push(entries.subarray(valueAt, end)));
    return values;
  }

  /** The keys of what is stored. Once more where it cannot be read. */
  #readAll(): void {
    for (const page of this.#pages) {
      if (page.unstored !== undefined || page.prints !== undefined) continue;
      const prints: number[] = [];
      const entries = this.#read(page);
      forEachEntry(entries, (keyAt, end) => prints.push(this.#prints.ofBytes(entries, keyAt, end)));
      for (const print of prints) this.#index.add(print, page.number);
      page.prints = Uint32Array.from(prints);
    }
    this.#isRead = true;
  }

  /** The entries of a page that is stored; none where it is damaged. */
  #read({ name }: Page): Buffer {
    if (this.#last?.name === name) return this.#last.entries;
    const page = this.source.read(name);
    const entries = page && entriesOf(page);
    if (entries === undefined) {
      this.source.damaged(name);
      return EMPTY;
    }
    this.#last = { name, entries };
    return entries;
  }
}

const EMPTY = Buffer.alloc(0);
const NO_PRINTS = new Uint32Array();

function printsOf({ unstored, prints = NO_PRINTS }: Page): Uint32Array {
  return unstored?.prints ?? prints;
}

function countOf(pages: readonly Page[]): number {
  return pages.reduce((sum, { count }) => sum + count, 0);
}

/** In the order of commits; says how many entries there are, so that a start need not look. */
function nameOf(number: number, part: number, count: number): string {
  return `${PAGES}${padded(number)}/${padded(part)}/${count}`;
}

/** Of a name that is none: before all others. */
function placeIn(name: string): Pick<Taken, 'number' | 'part'> {
  const [number = 0, part = 0] = name
    .slice(PAGES.length)
    .split('/', 2)
    .map((text) => Number.parseInt(text, 36));
  return Number.isSafeInteger(number) && Number.isSafeInteger(part) ? { number, part } : { number: 0, part: 0 };
}

function countIn(name: string): number {
  const count = Number(name.slice(name.lastIndexOf('/') + 1));
  return Number.isSafeInteger(count) && count > 0 ? count : 0;
}
