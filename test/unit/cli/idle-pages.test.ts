/** Which pages of the program are given back after the start, and that they are. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { releaseStartPages, untouchedMappings } from '../../../src/cli/idle-pages.js';

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

async function hasKoffi(): Promise<boolean> {
  try {
    await import('koffi');
    return true;
  } catch {
    return false;
  }
}
