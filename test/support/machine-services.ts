/**
 * A real dbus-daemon on a socket of the test's own, which takes the place of the system bus, and on it stand-ins for the
 * registration service and for systemd (machine-services.py), which tell each call that they get.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { ROOT } from './yggd.js';
import { tempDir } from './temp.js';

/** For `test(name, { skip: dbusMissing }, …)`: why it cannot run here, or false. */
export const dbusMissing: string | false =
  spawnSync('dbus-daemon', ['--version']).status !== 0
    ? 'dbus-daemon is not installed'
    : spawnSync('/usr/bin/python3', ['-c', 'import dbus.server, gi.repository.GLib']).status !== 0
      ? 'python3-dbus or python3-gi is not installed'
      : false;

export interface Plan {
  readonly services: readonly ('rhsm' | 'systemd')[];
  /** Who the machine is for the registration service, from the start. */
  readonly consumer?: string;
  /** Where the consumer's certificate is; without it the service knows no such setting. */
  readonly consumer_dir?: string;
  /** How a registration ends: its error is [exception, message]. */
  readonly register?: 'done' | 'hang' | 'plain' | readonly [string, string];
  readonly unregister?: 'refused';
  readonly password?: string;
  readonly organizations?: readonly string[];
  /** Where the private socket is, as libdbus takes it. */
  readonly private?: string;
  readonly active?: string;
  readonly file?: string;
  readonly load?: string;
  readonly enable?: 'refused';
  readonly result?: string;
  readonly status?: number;
  /** What the unit runs, as a unit of Type=notify does; `notify` is the path of its socket, `uid` its user and group. */
  readonly exec?: readonly string[];
  readonly notify?: string;
  readonly uid?: number;
  /** How each job ends; `done` where nothing is said. */
  readonly job?: Readonly<Partial<Record<'StartUnit' | 'RestartUnit' | 'StopUnit', string>>>;
}

export interface ServiceCall {
  readonly call: string;
  readonly args: readonly unknown[];
}

export interface MachineServices extends AsyncDisposable {
  readonly address: string;
  /** For the environment of who shall use this bus. */
  readonly env: Readonly<Record<string, string>>;
  readonly calls: readonly ServiceCall[];
  /** The names of the calls so far, without the questions that change nothing. */
  readonly deeds: readonly string[];
  /** The first call of this name, past or to come. */
  call(name: string): Promise<ServiceCall>;
}

const QUESTIONS = ['ready', 'Consumer.GetUuid', 'Config.Get'];

const CONFIG = (
  socket: string,
): string => `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path=${socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy>
</busconfig>`;

/** `await using machine = await startServices({ services: ['systemd'] })`. */
export async function startServices(plan: Plan): Promise<MachineServices> {
  const dir = await tempDir();
  const children: ChildProcess[] = [];
  const release = async (): Promise<void> => {
    for (const child of children.splice(0).reverse()) {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGTERM');
        await once(child, 'exit');
      }
    }
    await dir[Symbol.asyncDispose]();
  };
  try {
    const socket = join(dir.path, 'bus');
    await writeFile(join(dir.path, 'bus.conf'), CONFIG(socket));
    const daemon = spawn(
      'dbus-daemon',
      [`--config-file=${join(dir.path, 'bus.conf')}`, '--nofork', '--nopidfile', '--print-address'],
      // It grumbles where it may not raise its limit of files.
      { stdio: ['ignore', 'pipe', 'ignore'] },
    );
    children.push(daemon);
    const [address] = (await once(createInterface({ input: daemon.stdout }), 'line')) as [string];
    const calls: ServiceCall[] = [];
    let heard = (): void => undefined;
    const services = spawn(
      '/usr/bin/python3',
      [join(ROOT, 'test/support/machine-services.py'), JSON.stringify({ ...plan, address })],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    children.push(services);
    createInterface({ input: services.stdout }).on('line', (line) => {
      calls.push(JSON.parse(line) as ServiceCall);
      heard();
    });
    services.once('exit', () => heard());
    const call: MachineServices['call'] = async (name) => {
      for (;;) {
        const found = calls.find((each) => each.call === name);
        if (found !== undefined) return found;
        if (services.exitCode !== null) throw new Error(`the stand-ins have ended before ${name}`);
        await new Promise<void>((resolve) => (heard = resolve));
      }
    };
    await call('ready');
    return {
      address,
      env: { DBUS_SYSTEM_BUS_ADDRESS: address },
      calls,
      get deeds() {
        return calls.map((each) => each.call).filter((name) => !QUESTIONS.includes(name));
      },
      call,
      [Symbol.asyncDispose]: release,
    };
  } catch (error) {
    await release();
    throw error;
  }
}
