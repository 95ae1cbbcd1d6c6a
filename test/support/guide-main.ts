/**
 * Does what a guide says, as root of a machine that is made for it: run by guides.test.ts in namespaces of its own
 * (mounts, network, processes), in which /etc is a copy and the places of services are empty. Its arguments are the guide,
 * and commands that are run at its end. Prints each command and what it said.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, chmod, copyFile, cp, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { stepsOf } from './guide.js';
import { startServices } from './machine-services.js';
import { tempDir } from './temp.js';
import { ROOT } from './yggd.js';

const [guide, ...checks] = process.argv.slice(2);
if (guide === undefined) throw new Error('which guide?');
// It mounts over /etc and other places: never on the machine that somebody works on.
if (process.pid !== 1) throw new Error('this runs in namespaces of its own only (guides.test.ts)');

function mount(...words: string[]): void {
  execFileSync('mount', words, { stdio: 'inherit' });
}

async function makeMachine(scratch: string): Promise<void> {
  execFileSync('ip', ['link', 'set', 'lo', 'up']);
  await cp('/etc', join(scratch, 'etc'), { recursive: true, verbatimSymlinks: true });
  mount('--bind', join(scratch, 'etc'), '/etc');
  for (const place of ['/run', '/var/lib', '/var/log', '/var/tmp', '/usr/libexec'])
    mount('-t', 'tmpfs', 'tmpfs', place);
  await appendFile('/etc/hosts', '\n127.0.0.1 broker.example\n');
  await mkdir('/run/mosquitto');
  for (const place of ['/run/mosquitto', '/var/lib/mosquitto', '/var/log/mosquitto']) {
    await mkdir(place, { recursive: true });
    execFileSync('chown', ['mosquitto:', place]);
  }
  // What the package puts there.
  await mkdir('/etc/yggdrasil', { recursive: true });
  await mkdir('/usr/libexec/yggdrasil');
  await copyFile(join(ROOT, 'dist/workers/echo-worker'), '/usr/libexec/yggdrasil/echo-worker');
  await chmod('/usr/libexec/yggdrasil/echo-worker', 0o755);
}

/** Commands that this machine has otherwise: packages are there already, and no systemd runs. */
async function makeCommands(directory: string): Promise<void> {
  const command = async (name: string, lines: string): Promise<void> => {
    await writeFile(join(directory, name), `#!/bin/sh\n${lines}\n`, { mode: 0o755 });
  };
  await command('apt-get', 'exit 0');
  for (const program of ['ygg', 'yggd'])
    await command(program, `exec '${process.execPath}' '${join(ROOT, 'dist', program)}.js' "$@"`);
  await command(
    'systemctl',
    `[ "$*" = 'restart mosquitto' ] || { echo "systemctl $*: not on this machine" >&2; exit 1; }
[ ! -e /run/mosquitto/mosquitto.pid ] || kill "$(cat /run/mosquitto/mosquitto.pid)"
log=/var/log/mosquitto/mosquitto.log
rm -f "$log"
mosquitto -d -c /etc/mosquitto/mosquitto.conf
timeout 60 sh -c "tail -n +1 -F $log 2>/dev/null | grep -q -m1 ' running$'"`,
  );
}

async function type(commands: string, env: NodeJS.ProcessEnv): Promise<void> {
  process.stdout.write(commands.replace(/^/gm, '# ').replace(/# $/, ''));
  const shell = spawn('bash', ['-e', '-o', 'pipefail', '-c', commands], {
    stdio: ['ignore', 'inherit', 'inherit'],
    cwd: '/root',
    env,
  });
  const [code] = (await once(shell, 'exit')) as [number | null];
  if (code !== 0) throw new Error(`this ended with ${code}:\n${commands}`);
}

await using scratch = await tempDir();
await makeMachine(scratch.path);
const bin = join(scratch.path, 'bin');
await mkdir(bin);
await makeCommands(bin);
const places = ['--config-dir=/etc/yggdrasil', '--state-dir=/var/lib/yggdrasil', '--runtime-dir=/run/yggdrasil'];
const path = `${bin}:${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;
await using services = await startServices({
  services: ['systemd'],
  // Workers get the path of the agent.
  exec: ['/usr/bin/env', `PATH=${path}`, join(bin, 'yggd'), ...places, '--worker-dir=/usr/libexec/yggdrasil'],
  notify: '/run/yggd-notify',
});
const env = { ...process.env, ...services.env, PATH: path };
if (guide === 'first-machine.md') await type('systemctl restart mosquitto\n', env);
for (const step of await stepsOf(guide)) {
  if (step.kind === 'commands') await type(step.text, env);
  else {
    await mkdir(dirname(step.path), { recursive: true });
    await writeFile(step.path, step.text);
  }
}
for (const check of checks) await type(`${check}\n`, env);
