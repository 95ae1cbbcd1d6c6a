/** Which pages of the program are given back after the start, and that they are. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { LmdbJournal } from '../../../src/datastore/lmdb-journal.js';
import { openFileRelease, releaseStartPages, sharedMappings, untouchedMappings } from '../../../src/cli/idle-pages.js';
import { tempDir } from '../../support/temp.js';

function mapping(head: string, fields: Readonly<Record<string, number>> = {}): string {
  const all = { Rss: 400, Private_Dirty: 0, Shared_Dirty: 0, Anonymous: 0, Swap: 0, Locked: 0, ...fields };
  const lines = Object.entries(all).map(([name, kib]) => `${`${name}:`.padEnd(16)} ${kib} kB`);
  return [head, ...lines, 'VmFlags: rd mr mw me'].join('\n');
}

test('only what is exactly as in the program’s file', () => {
  const node = '/usr/bin/node';
  const smaps = [
    mapping(`00400000-00b6f000 r--p 00000000 fe:00 260689                             ${node}`),
    mapping(`00b6f000-025fe000 r-xp 0076f000 fe:00 260689                             ${node}`),
    mapping(`0563a000-0563e000 r--p 05239000 fe:00 260689                             ${node}`, { Private_Dirty: 8 }),
    mapping(`0563e000-0565d000 rw-p 0523d000 fe:00 260689                             ${node}`),
    mapping(`0565d000-0566d000 r--p 0523d000 fe:00 260689                             ${node}`, { Anonymous: 4 }),
    mapping(`0566d000-0567d000 r--p 0523d000 fe:00 260689                             ${node}`, { Locked: 4 }),
    mapping(`0567d000-0568d000 r--p 0523d000 fe:00 260689                             ${node} (deleted)`),
    mapping(`7fca9ee4a000-7fca9eeb0000 r-xp 00000000 fe:00 5317199                    /usr/lib/x.node`),
    mapping(`7fca9ff4a000-7fca9ffb0000 r--s 00000000 fe:00 260689                     ${node}`),
    mapping('7fcb00000000-7fcb00010000 r-xp 00000000 00:00 0'),
    '7fcb00020000-7fcb00030000 r-xp 00000000 fe:00 260689                     /usr/bin/node\nRss: 4 kB',
  ].join('\n');
  assert.deepEqual(untouchedMappings(smaps, node), [
    { address: 0x400000n, length: 0x76f000n },
    { address: 0xb6f000n, length: 0x1a8f000n },
  ]);
  assert.deepEqual(untouchedMappings('', node), []);
});

test('they are given back, and the program goes on', async (t) => {
  const fileBytes = async (): Promise<number> =>
    Number(/^RssFile:\s+(\d+) kB/m.exec(await readFile('/proc/self/status', 'utf8'))?.[1]);
  // Loaded by the first call, so that it is not counted by the second.
  await releaseStartPages();
  assert.ok(new Intl.DateTimeFormat('de').format(0).length > 0, 'it reads its tables again');
  const before = await fileBytes();
  await releaseStartPages();
  const after = await fileBytes();
  if (!(await hasKoffi())) {
    t.diagnostic('no koffi: nothing is given back');
    return;
  }
  assert.ok(after < before, `${before} kB, then ${after} kB`);
});

test('of a file’s mappings those that are shared with it, and nothing else', () => {
  const file = '/var/lib/yggdrasil/journal/data.mdb';
  const maps = [
    `7f0000000000-7f0000020000 r--s 00000000 fe:00 260689                     ${file}`,
    `7f0000020000-7f0000030000 rw-s 00000000 fe:00 260689                     ${file}`,
    `7f0000030000-7f0000040000 rw-p 00000000 fe:00 260689                     ${file}`,
    `7f0000040000-7f0000050000 r--s 00000000 fe:00 260689                     ${file} (deleted)`,
    '7f0000050000-7f0000060000 rw-s 00000000 fe:00 260690                     /var/lib/yggdrasil/journal/lock.mdb',
    '7f0000060000-7f0000070000 rw-s 00000000 00:01 5',
    '',
  ].join('\n');
  assert.deepEqual(sharedMappings(maps, file), [
    { address: 0x7f0000000000n, length: 0x20000n },
    { address: 0x7f0000020000n, length: 0x10000n },
  ]);
});

test('a journal whose pages are given back holds all it held, and takes more', async (t) => {
  await using directory = await tempDir();
  const journal = new LmdbJournal(directory.path);
  await journal.open();
  const value = (n: number): Buffer => Buffer.alloc(5_000, n);
  const put = (n: number) => ({ table: 'records', key: `i/echo/5/${n}`, value: value(n) }) as const;
  const holds = (from: number, to: number): void => {
    for (let n = from; n < to; n++) assert.deepEqual(journal.get('records', `i/echo/5/${n}`), value(n));
  };
  await journal.commit(Array.from({ length: 200 }, (_, n) => put(n)));
  // What it holds goes to its tables when it is closed.
  await journal.close();
  await journal.open();
  holds(0, 200);
  const file = join(directory.path, 'data.mdb');
  const resident = async (): Promise<number> => {
    const smaps = await readFile('/proc/self/smaps', 'utf8');
    const blocks = smaps.split(/\n(?=[0-9a-f]+-[0-9a-f]+ )/).filter((block) => block.includes(file));
    return blocks.reduce((sum, block) => sum + Number(/^Rss: +(\d+) kB/m.exec(block)?.[1]), 0);
  };
  const before = await resident();
  const release = await openFileRelease(file);
  if (release === undefined) t.diagnostic('no koffi: nothing is given back');
  else {
    release();
    assert.ok((await resident()) < before / 2, `${await resident()} kB of ${before} are left`);
  }
  holds(0, 200);
  await journal.commit([put(200)]);
  holds(0, 201);
  await journal.close();
  release?.();
});

async function hasKoffi(): Promise<boolean> {
  try {
    await import('koffi');
    return true;
  } catch {
    return false;
  }
}
