// The guides, done to the letter by somebody who has nothing else: from the package to the first answer, and a broker
// with TLS and rules by which one machine cannot pass for another.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, it } from 'node:test';
import { dbusMissing } from '../support/machine-services.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import { ROOT } from '../support/yggd.js';

const UNSHARE = ['--mount', '--net', '--pid', '--fork', '--kill-child', '--mount-proc'];

function missing(): string | false {
  if (mosquittoMissing !== false) return mosquittoMissing;
  if (dbusMissing !== false) return dbusMissing;
  // It is the machine's root who follows a guide.
  return spawnSync('unshare', [...UNSHARE, 'true']).status === 0 ? false : 'namespaces cannot be made here (not root?)';
}
const skip = missing();

/** Follows a guide, then runs `checks` on its machine; what was said. Throws it when a command fails. */
async function follow(guide: string, ...checks: readonly string[]): Promise<string> {
  const main = join(ROOT, 'test/support/guide-main.ts');
  const words = [...UNSHARE, process.execPath, '--import', 'tsx', main, guide, ...checks];
  const child = spawn('unshare', words, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'], timeout: 240_000 });
  const ended = once(child, 'exit') as Promise<[number | null]>;
  const [out, err, [code]] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
  assert.equal(code, 0, `${out}\n${err}`);
  return out + err;
}

describe('docs/guides', { skip }, () => {
  it('first-machine.md: from the package to the first answer, and a worker of one’s own', async () => {
    const said = await follow('first-machine.md');
    assert.match(said, /^pong/m);
    assert.match(said, /^\{"hello":"world"\}$/m);
    assert.match(said, /^"?HELLO"?$/m);
  });

  it('broker.md: certificates for all, and no machine passes for another', async () => {
    const tls = '--cafile /etc/yggdrasil-ca/ca.crt -h broker.example -p 8883 -V 5 -q 1';
    const machine = '--cert /etc/yggdrasil/agent.crt --key /etc/yggdrasil/agent.key';
    const publish = (topic: string): string =>
      `mosquitto_pub ${tls} ${machine} -i checker -m x -t yggdrasil/${topic} 2>&1 || true`;
    const said = await follow(
      'broker.md',
      ...['machine-2/data/in', 'machine-2/control/out', 'machine-1/data/in'].map(publish),
      // Its own certificate is asked for, and one of another authority is of no use.
      `mosquitto_pub ${tls} -i nobody -m x -t yggdrasil/machine-1/data/in 2>&1 && exit 1 || echo turned away`,
      "stat -c '%a %U %n' /etc/yggdrasil-ca/ca.key /etc/yggdrasil/agent.key",
    );
    assert.match(said, /^\{"hello":"world"\}$/m);
    assert.equal(said.match(/not authori[sz]ed/gi)?.length, 3, said);
    assert.match(said, /^turned away$/m);
    assert.match(said, /^600 root \/etc\/yggdrasil-ca\/ca\.key$/m);
    assert.match(said, /^640 root \/etc\/yggdrasil\/agent\.key$/m);
  });
});

it('the guides name no page that is not there', async () => {
  const directory = join(ROOT, 'docs/guides');
  const names = await readdir(directory);
  for (const name of names) {
    const guide = await readFile(join(directory, name), 'utf8');
    for (const [, link = ''] of guide.matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g))
      await assert.doesNotReject(readFile(join(directory, link)), `${name} names ${link}`);
  }
});
