import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { MarkPlace, openMarks } from '../../../src/process/mark.js';
import { Proc } from '../../../src/process/proc.js';
import { silentLog } from '../../../src/log/log.js';

test('a mark is inherited whatever a process does to hide, and the agent itself carries none afterwards', async () => {
  const marks = await openMarks(silentLog);
  assert.ok(marks !== undefined, 'koffi is installed here');
  const mark = new MarkPlace('/run/x').next();
  const before = new Proc().mark(process.pid);
  const script = "env -i setsid /bin/sh -c 'exec grep locks /proc/self/limits'";
  const { stdout } = marks.stamp(mark, () => spawnSync('/bin/sh', ['-c', script], { encoding: 'utf8' }));
  assert.match(stdout, new RegExp(`^Max file locks +${mark} `));
  assert.equal(new Proc().mark(process.pid), before);
  assert.throws(() => marks.stamp(mark, () => assert.fail('no spawn')), /no spawn/);
  assert.equal(new Proc().mark(process.pid), before);
});

test('a mark tells its runtime directory, also to the next agent', () => {
  const ours = new MarkPlace('/run/ours');
  for (let n = 0; n < 100; n++) {
    const mark = ours.next();
    assert.ok(Number.isSafeInteger(mark));
    assert.ok(new MarkPlace('/run/ours').includes(mark));
    assert.ok(!new MarkPlace('/run/theirs').includes(mark));
  }
  assert.ok(!ours.includes(undefined));
});
