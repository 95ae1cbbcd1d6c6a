/** What the package's scripts do with a running systemd: enabled by the operator alone, restarted by an upgrade, stopped and forgotten by a removal. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { buildDeb, packagingMissing } from '../support/debian.js';
import { Machine, machineMissing } from '../support/machine.js';
import { mosquittoMissing, startMosquitto } from '../support/mosquitto.js';
import { Operator } from '../support/operator.js';
import { ROOT } from '../support/yggd.js';

const skip = packagingMissing || machineMissing || mosquittoMissing;
const UNIT = 'yggd.service';

test(
  'an upgrade restarts a running agent, also one that a worker runs; a purge leaves no unit behind',
  { skip },
  async () => {
    // Below the clone, which the machine sees.
    await mkdir(join(ROOT, 'build'), { recursive: true });
    const out = await mkdtemp(join(ROOT, 'build/deb-test-'));
    try {
      const older = await buildDeb({ out, version: '0.0.9' });
      const newer = await buildDeb({ out });
      await using broker = await startMosquitto();
      await using operator = await Operator.connect(broker.url, 'deb-2');
      await using machine = await Machine.boot();
      // Images for containers forbid dpkg to start anything.
      await machine.run('rm', '-f', '/usr/sbin/policy-rc.d');
      await machine.run('dpkg', '--install', older);
      assert.equal(await machine.property(UNIT, 'UnitFileState'), 'disabled');
      assert.equal(await machine.property(UNIT, 'ActiveState'), 'inactive');

      await machine.write('/etc/yggdrasil/config.toml', `broker = ["${broker.url}"]\nclient-id = "deb-2"\n`);
      await machine.run('systemctl', 'enable', '--now', UNIT);
      await operator.status(({ dispatchers }) => 'echo' in dispatchers, 'the echo worker');
      const first = await machine.property(UNIT, 'MainPID');

      operator.forget();
      await machine.run('dpkg', '--install', newer);
      const second = await machine.property(UNIT, 'MainPID');
      assert.notEqual(second, first, 'it was restarted');
      assert.equal(await machine.property(UNIT, 'ActiveState'), 'active');
      const id = await operator.send('echo', '"after the upgrade"');
      assert.equal((await operator.answerTo(id)).content, 'after the upgrade');
      assert.equal(await machine.property(UNIT, 'UnitFileState'), 'enabled');

      // One that was stopped stays so.
      await machine.run('systemctl', 'stop', UNIT);
      await machine.run('dpkg', '--install', older);
      assert.equal(await machine.property(UNIT, 'ActiveState'), 'inactive');

      await machine.run('systemctl', 'start', UNIT);
      await machine.run('dpkg', '--remove', 'yggdrasil-agent');
      assert.equal(await machine.property(UNIT, 'ActiveState'), 'inactive');
      await machine.run('dpkg', '--purge', 'yggdrasil-agent');
      const left = await machine.run(
        'sh',
        '-c',
        "find /etc/systemd /var/lib/systemd /etc/yggdrasil /var/lib/yggdrasil -name '*ygg*' 2>/dev/null || true",
      );
      assert.equal(left, '');
    } finally {
      await rm(out, { recursive: true, force: true });
    }
  },
);
