/** What LMDB writes down about a tree of pages: in a meta page, or in the entry of a named table. */

export interface Tree {
  readonly depth: number;
  readonly branches: bigint;
  readonly leaves: bigint;
  readonly overflows: bigint;
  readonly entries: bigint;
  readonly root: bigint;
}

/** The root of a tree that holds nothing. */
export const NO_ROOT = 2n ** 64n - 1n;

export function treeFrom(bytes: Buffer): Tree {
  return {
    depth: bytes.readUInt16LE(6),
    branches: bytes.readBigUInt64LE(8),
    leaves: bytes.readBigUInt64LE(16),
    overflows: bytes.readBigUInt64LE(24),
    entries: bytes.readBigUInt64LE(32),
    root: bytes.readBigUInt64LE(40),
  };
}
