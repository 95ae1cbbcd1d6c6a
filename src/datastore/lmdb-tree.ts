/** What LMDB writes down about a tree of pages, in a meta page or in the entry of a named table; and the meta pages. */
import { Damage, HEADER, MAGIC, META, TREE, VERSION } from './lmdb-node.js';

/** Above it no mapping succeeds (64 TiB). */
const MAX_MAP = 2n ** 46n;

export interface Tree {
  /** How long a key is in a tree of keys of one length, which ours are not; the free pages' tree has the page size here. */
  readonly pad: number;
  /** How its keys are compared and whether a key may stand there twice. */
  readonly flags: number;
  readonly depth: number;
  readonly branches: bigint;
  readonly leaves: bigint;
  readonly overflows: bigint;
  readonly entries: bigint;
  readonly root: bigint;
}

/** The flags of a tree whose keys are numbers; those whose keys are bytes have none. */
export const NUMBERS = 8;

/** The root of a tree that holds nothing. */
export const NO_ROOT = 2n ** 64n - 1n;

export function treeFrom(bytes: Buffer): Tree {
  return {
    pad: bytes.readUInt32LE(0),
    flags: bytes.readUInt16LE(4),
    depth: bytes.readUInt16LE(6),
    branches: bytes.readBigUInt64LE(8),
    leaves: bytes.readBigUInt64LE(16),
    overflows: bytes.readBigUInt64LE(24),
    entries: bytes.readBigUInt64LE(32),
    root: bytes.readBigUInt64LE(40),
  };
}

export interface Meta {
  readonly main: Tree;
  readonly free: Tree;
  readonly lastPage: number;
  /** The transaction that wrote it. */
  readonly written: bigint;
}

/** What a meta page of a file of `size` bytes says; throws Damage where that cannot be. */
export function metaFrom(page: Buffer, size: number, pageSize: number): Meta {
  if (page.readUInt16LE(18) !== META) throw new Damage('it is not marked as one');
  if (page.readUInt32LE(HEADER) !== MAGIC) throw new Damage('it has another magic number');
  if (page.readUInt32LE(HEADER + 4) !== VERSION) throw new Damage('it is of another version of LMDB');
  const mapSize = page.readBigUInt64LE(HEADER + 16);
  const lastPage = page.readBigUInt64LE(HEADER + 24 + 2 * TREE);
  const written = page.readBigUInt64LE(HEADER + 32 + 2 * TREE);
  if (page.readUInt32LE(HEADER + 24) !== pageSize) throw new Damage('it has another page size');
  // The older of the two may say how it was before the store grew, by as much as one transaction holds.
  if (mapSize < lastPage * BigInt(pageSize) || mapSize > MAX_MAP) throw new Damage('its map size is absurd');
  // Pages that were given back in the transaction that made them were never written.
  if (lastPage < 1n || lastPage > BigInt(Math.floor(size / pageSize)) + 65_536n)
    throw new Damage('its last page is absurd');
  return {
    free: treeFrom(page.subarray(HEADER + 24)),
    main: treeFrom(page.subarray(HEADER + 24 + TREE)),
    lastPage: Number(lastPage),
    written,
  };
}
