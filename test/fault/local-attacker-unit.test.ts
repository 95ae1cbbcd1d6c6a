/**
 * The agent under the unit that ships, on a machine whose process 1 is systemd: with the walls up, as an unprivileged
 * daemon, and with the drop-in, as root with workers of other users. A local attacker meets it there.
 */
import assert from 'node:assert/strict';
import { suite } from 'node:test';
import { fault } from '../support/fault.js';
import { Machine, machineMissing, type JournalFollower } from '../support/machine.js';
import { mosquittoMissing, startMosquitto } from '../support/mosquitto.js';
import { contentOf, Operator } from '../support/operator.js';
import { ROOT } from '../support/yggd.js';

const skip = machineMissing || mosquittoMissing;
const UNIT = 'yggd.service';
const WORKERS = '/usr/local/libexec/yggdrasil';

interface Installed extends AsyncDisposable {
  readonly machine: Machine;
  readonly operator: Operator;
  readonly journal: JournalFollower;
  echo(directive: string): Promise<void>;
  status(): Promise<Readonly<Record<string, string>>>;
}

/** Installs the agent as the README says, with a broker to speak to. It is not started yet. */
async function install(clientId: string): Promise<Installed> {
  const stack = new Stack();
  try {
    const broker = stack.use(await startMosquitto());
    const machine = stack.use(await Machine.boot());
    const operator = stack.use(await Operator.connect(broker.url, clientId));
    await machine.run(process.execPath, `${ROOT}/scripts/install-system.js`, '--prefix', '/usr/local');
    await machine.write('/etc/yggdrasil/config.toml', `broker = ["${broker.url}"]\nclient-id = "${clientId}"\n`);
    await machine.run('systemd-sysusers');
    await machine.run('systemd-tmpfiles', '--create', '/usr/local/lib/tmpfiles.d/yggdrasil.conf');
    await machine.run('systemctl', 'daemon-reload');
    return {
      machine,
      operator,
      journal: machine.follow(UNIT),
      async echo(directive) {
        // Before it has subscribed, the broker would drop what is sent to it.
        await operator.status(({ dispatchers }) => directive in dispatchers, `a status with ${directive}`);
        const content = `{"from":"${directive}"}`;
        assert.equal(contentOf(await operator.answerTo(await operator.send(directive, content))), content);
      },
      async status() {
        const text = await machine.run('cat', `/proc/${await machine.property(UNIT, 'MainPID')}/status`);
        return Object.fromEntries(text.split('\n').map((line) => line.split(/:\s*/, 2))) as Record<string, string>;
      },
      [Symbol.asyncDispose]: () => stack.dispose(),
    };
  } catch (error) {
    await stack.dispose();
    throw error;
  }
}

class Stack {
  readonly #held: AsyncDisposable[] = [];

  use<T extends AsyncDisposable>(held: T): T {
    this.#held.push(held);
    return held;
  }

  async dispose(): Promise<void> {
    for (const held of this.#held.splice(0).reverse()) await held[Symbol.asyncDispose]();
  }
}

/** What a worker, or what it starts, must not be able to do behind the walls. Prints one line for each that it could. */
const PROBE = `#!/bin/sh
try() { if "$@" > /dev/null 2>&1; then echo "could: $*"; fi; }
try touch /etc/probe
try touch /usr/probe
try touch /var/lib/probe
try touch ${WORKERS}/planted-worker
try touch /etc/yggdrasil/workers/echo-worker.toml
try ls /root/.
try ls /home/.
try chmod u+s /var/lib/yggdrasil/client-id
try unshare --user true
try mount -t tmpfs tmpfs /tmp
try su -c true
try cat /proc/1/environ
try dmesg
try hostname probe
try chroot / true
echo probed
exec sleep 1000
`;

suite('the unit that ships', { skip, timeout: 240_000 }, () => {
  fault(
    'local attacker',
    'the agent does its work behind the walls of its unit, and nobody gets over them',
    {},
    async (run) => {
      await using installed = await install('walls');
      const { machine, operator, journal } = installed;
      await machine.write(`${WORKERS}/probe-worker`, PROBE, '755');
      await machine.write(`/etc/systemd/system/${UNIT}.d/watchdog.conf`, '[Service]\nWatchdogSec=2\n');
      await machine.run('systemctl', 'daemon-reload');

      await machine.run('systemctl', 'start', UNIT);
      assert.equal(await machine.property(UNIT, 'ActiveState'), 'active', 'READY=1 was heard');
      const uid = await machine.run('id', '-u', 'yggdrasil');
      const { Uid, CapBnd, CapEff, NoNewPrivs, Seccomp } = await installed.status();
      assert.equal(Uid, Array(4).fill(uid).join('\t'));
      assert.deepEqual([CapBnd, CapEff], ['0000000000000000', '0000000000000000']);
      assert.deepEqual([NoNewPrivs, Seccomp], ['1', '2']);

      for (const directive of ['echo', 'python_echo']) await installed.echo(directive);
      run.count(2);
      await journal.line(/^connected to the broker/);
      assert.match(await machine.property(UNIT, 'StatusText'), /^connected to mqtt:/);
      await journal.line(/^probed/);
      assert.deepEqual(
        journal.lines.filter((line) => line.startsWith('could: ')),
        [],
      );
      assert.notEqual(await machine.run('cat', `/sys/fs/cgroup/system.slice/${UNIT}/w-echo-worker/cgroup.procs`), '');

      await machine.run('systemctl', 'reload', UNIT);
      await journal.line(/event=config\.reloaded/);

      // Fed until it stands still: then systemd ends it, and starts it again.
      assert.equal(await machine.property(UNIT, 'NRestarts'), '0');
      assert.notEqual(await machine.property(UNIT, 'WatchdogTimestampMonotonic'), '0');
      operator.forget();
      journal.forget();
      await machine.run('kill', '-STOP', await machine.property(UNIT, 'MainPID'));
      run.killed('agent');
      await journal.line(/Watchdog timeout/);
      await journal.line(/event=agent\.ready/);
      assert.equal(await machine.property(UNIT, 'NRestarts'), '1');
      await installed.echo('echo');
      run.count(1);

      operator.forget();
      await machine.run('systemctl', 'stop', UNIT);
      await operator.status(({ state }) => state === 'offline', 'the offline status');
      assert.deepEqual(
        [await machine.property(UNIT, 'Result'), await machine.property(UNIT, 'ExecMainStatus')],
        ['success', '0'],
      );
    },
  );

  fault(
    'local attacker',
    'with the drop-in the daemon is root and each worker the user its file names',
    {},
    async (run) => {
      await using installed = await install('root-workers');
      const { machine, journal } = installed;
      const directory = `/usr/local/lib/systemd/system/${UNIT}.d`;
      const dropIn = await machine.run('cat', `${directory}/root-workers.conf.example`);
      await machine.write(`/etc/systemd/system/${UNIT}.d/root-workers.conf`, dropIn);
      await machine.run('useradd', '--system', 'echo-user');
      await machine.run('useradd', '--system', 'worker-user');
      await machine.write('/etc/yggdrasil/workers/echo-worker.toml', 'user = "echo-user"\n');
      await machine.run('/bin/sh', '-c', 'echo \'worker-user = "worker-user"\' >> /etc/yggdrasil/config.toml');
      await machine.run('systemctl', 'daemon-reload');
      await machine.run('systemctl', 'start', UNIT);
      const { Uid, NoNewPrivs, Seccomp } = await installed.status();
      assert.deepEqual([Uid, NoNewPrivs, Seccomp], ['0\t0\t0\t0', '0', '0']);
      for (const directive of ['echo', 'python_echo']) await installed.echo(directive);
      run.count(2);

      for (const [worker, user] of [
        ['echo-worker', 'echo-user'],
        ['python-echo-worker', 'worker-user'],
      ] as const) {
        const line = await journal.line(new RegExp(`^worker ${worker} was started`));
        const pid = /pid=(\d+)/.exec(line)?.[1];
        assert.equal(await machine.run('ps', '-o', 'user:32=', '-p', String(pid)), user);
        // Its own socket, and nobody else's; nothing of the agent's.
        const test = (path: string): Promise<boolean> =>
          machine.run('setpriv', `--reuid=${user}`, '--clear-groups', 'test', '-e', path).then(
            () => true,
            () => false,
          );
        for (const other of ['echo-worker', 'python-echo-worker', 'command-worker']) {
          const isOwn = other === worker || (other === 'command-worker' && user === 'worker-user');
          assert.equal(await test(`/run/yggdrasil/w/${other}/d.sock`), isOwn, `${user}: ${other}`);
        }
        for (const path of ['journal/data.mdb', 'lock', 'client-id', 'children.json']) {
          assert.equal(await test(`/var/lib/yggdrasil/${path}`), false, path);
        }
      }
      await machine.run('systemctl', 'stop', UNIT);
      assert.equal(await machine.property(UNIT, 'Result'), 'success');
    },
  );
});
