/**
 * The entries of one page of an LMDB file, as lmdb-pages.ts finds them: where each stands and what it says of itself.
 * Nothing that a page says is believed before it is seen to lie within the page.
 */

/** Bytes of the head of a page, the head of an entry, and what describes a tree. */
export const [HEADER, NODE, TREE] = [24, 8, 48];
/** Bytes of what stands in place of a value that has pages of its own. */
const REFERENCE = 24;
export const [BRANCH, LEAF, OVERFLOW, META] = [1, 2, 4, 8];
export const [BIG, TABLE] = [1, 2];
export const [MAGIC, VERSION] = [0xbeefc0de, 2];

/** What is wrong with a page; caught where the walk can go on beside it. */
export class Damage extends Error {}

export interface Node {
  readonly flags: number;
  readonly key: Buffer;
  readonly size: number;
  readonly child: number;
  readonly page: Buffer;
  /** Where its value stands in the page. */
  readonly from: number;
  readonly to: number;
}

/** How many entries a page says it has. */
export function entryCount(page: Buffer): number {
  return page.readUInt16LE(20) >> 1;
}

/** Throws Damage for bounds that no page can have. */
export function checkBounds(page: Buffer, pageSize: number): void {
  const lower = page.readUInt16LE(20);
  const upper = page.readUInt16LE(22);
  if (lower % 2 !== 0 || lower > upper || upper > pageSize - HEADER || lower === 0)
    throw new Damage('its bounds are wrong');
}

/**
 * Throws Damage where the entries do not fill the page from its upper bound to its end, each beginning where the one
 * before it ends: LMDB moves them by these lengths when one is added or goes.
 */
export function checkPacking(page: Buffer, kind: number, pageSize: number): void {
  const places = Uint16Array.from({ length: entryCount(page) }, (_, n) => page.readUInt16LE(HEADER + n * 2)).sort();
  let end = page.readUInt16LE(22);
  for (const place of places) {
    const at = HEADER + place;
    if (place !== end || at + NODE > pageSize) throw new Damage('its entries overlap or leave gaps');
    end += (NODE + page.readUInt16LE(at + 6) + sizeInPage(page, at, kind) + 1) & ~1;
  }
  if (end !== pageSize - HEADER) throw new Damage('its entries do not fill it to its end');
}

/** How many bytes of the value of the entry at `at` stand in the page itself. */
function sizeInPage(page: Buffer, at: number, kind: number): number {
  if (kind === BRANCH) return 0;
  return (page.readUInt16LE(at + 4) & BIG) !== 0
    ? REFERENCE
    : page.readUInt16LE(at) + page.readUInt16LE(at + 2) * 65_536;
}

/** Entry `n` of a page; throws Damage where it does not lie within the page. */
export function nodeOf(page: Buffer, n: number, kind: number, pageSize: number): Node {
  if (HEADER + n * 2 + 2 > pageSize) throw new Damage('it has more entries than room');
  const at = HEADER + page.readUInt16LE(HEADER + n * 2);
  if (at + NODE > pageSize) throw new Damage('an entry out of its bounds');
  const size = page.readUInt16LE(at) + page.readUInt16LE(at + 2) * 65_536;
  const flags = page.readUInt16LE(at + 4);
  const from = at + NODE + page.readUInt16LE(at + 6);
  const inPage = sizeInPage(page, at, kind);
  if (kind === LEAF && (flags & ~(BIG | TABLE)) !== 0) throw new Damage('an entry of an unknown kind');
  if (from + inPage > pageSize) throw new Damage('an entry that is longer than its page');
  return {
    flags: kind === LEAF ? flags : 0,
    key: page.subarray(at + NODE, from),
    size,
    child: size + flags * 2 ** 32,
    page,
    from,
    to: from + inPage,
  };
}

/** The bytes of its value that stand in the page: made when they are asked for, since a walk over all asks for few. */
export function dataOf({ page, from, to }: Node): Buffer {
  return page.subarray(from, to);
}
