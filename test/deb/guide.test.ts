/** A new operator with the package and docs/guides/first-machine.md, on a machine with a systemd of its own. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { buildDeb, packagingMissing } from '../support/debian.js';
import { stepsOf } from '../support/guide.js';
import { Machine, machineMissing } from '../support/machine.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import { ROOT } from '../support/yggd.js';

const dbusMissing = existsSync('/lib/systemd/system/dbus.socket') ? false : 'apt-get install dbus';
const skip = packagingMissing || machineMissing || mosquittoMissing || dbusMissing;

test('from the package to the first answer, and a worker of one’s own', { skip }, async (t) => {
  // Below the clone, which the machine sees.
  await mkdir(join(ROOT, 'build'), { recursive: true });
  const out = await mkdtemp(join(ROOT, 'build/deb-test-'));
  try {
    await buildDeb({ out });
    await using machine = await Machine.boot();
    // Images for containers forbid dpkg to start anything. What an installation of Debian starts by itself is started.
    await machine.run('rm', '-f', '/usr/sbin/policy-rc.d');
    await machine.run('systemctl', 'start', 'dbus.socket', 'mosquitto.service');
    const begun = Date.now();
    let said = '';
    for (const step of await stepsOf('first-machine.md')) {
      if (step.kind === 'file') await machine.write(step.path, step.text);
      else said += `${await machine.run('bash', '-e', '-o', 'pipefail', '-c', `cd '${out}'\n${step.text}`)}\n`;
      if (said.includes('{"hello":"world"}') && !said.includes('HELLO'))
        t.diagnostic(`${Math.round((Date.now() - begun) / 1000)} s of commands from the package to the first answer`);
    }
    assert.match(said, /^unit\tyggd\.service is enabled/m);
    assert.match(said, /^broker\tmachine-1 is connected to mqtt:\/\/127\.0\.0\.1:1883$/m);
    assert.match(said, /^pong/m);
    assert.match(said, /^\{"hello":"world"\}$/m);
    assert.match(said, /^"HELLO"$/m);
    assert.equal(await machine.property('yggd.service', 'ActiveState'), 'active');

    // The other way, over the real systemd.
    const left = await machine.run('ygg', 'disconnect');
    assert.equal(await machine.property('yggd.service', 'ActiveState'), 'inactive', left);
    assert.equal(await machine.property('yggd.service', 'UnitFileState'), 'disabled', left);
    await machine.run('apt-get', 'purge', '--yes', 'yggdrasil-agent');
  } finally {
    await rm(out, { recursive: true, force: true });
  }
});
