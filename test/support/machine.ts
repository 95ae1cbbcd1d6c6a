/**
 * A machine of a test's own: the distribution's systemd as process 1 of new namespaces, over a copy-on-write view of
 * this machine's files. What is installed, started and written in it is gone with it. It shares only the network, so
 * that brokers and clients of the test are reached on loopback.
 */
import { execFile, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { Signal } from '../../src/signal/index.js';
import { tempDir } from './temp.js';
import { ROOT } from './yggd.js';

const execute = promisify(execFile);
const INIT = '/lib/systemd/systemd';
const PATIENCE_MS = 60_000;

/** For `test(name, { skip: machineMissing }, …)`: why none can be booted here, or false. */
export const machineMissing: string | false = whatIsMissing();

function whatIsMissing(): string | false {
  if (process.getuid?.() !== 0) return 'only root can boot a systemd in a cgroup of its own';
  if (!existsSync(INIT)) return 'systemd is not installed: apt-get install systemd (and a cgroup to boot it in)';
  if (/^\/(root|home)\//.test(process.execPath))
    return `Node is in ${process.execPath}, where no daemon of a unit may go`;
  if (cgroupRoot() === undefined) return 'there is no cgroup v2 to boot a systemd in';
  const flags = ['--pid', '--fork', '--mount', '--cgroup', '--uts', '--ipc'];
  return spawnSync('unshare', [...flags, 'true']).status === 0
    ? false
    : 'namespaces and a cgroup to boot a systemd in are not allowed here';
}

/** Where cgroup v2 is mounted. */
function cgroupRoot(): string | undefined {
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  return mounts.map((line) => line.split(' ')).find(([, , type]) => type === 'cgroup2')?.[1];
}

/** $1 a directory, $2 what to show of this machine besides its root, $3 a FIFO that is written to when it is up. */
const BOOT = `
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/up" "$1/work" "$1/root"
mount -t overlay overlay -o lowerdir=/,upperdir="$1/up",workdir="$1/work" "$1/root"
cd "$1/root"
mkdir -p ".$2" up
mount --bind "$2" ".$2"
mount -o remount,bind,ro ".$2"
touch booted
mount --bind "$3" booted
mount -t proc proc proc
# What is in these two is this machine's own.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for name in null zero full random urandom tty; do touch dev/$name; mount --bind /dev/$name dev/$name; done
mkdir dev/shm dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=1777 tmpfs dev/shm
cat > etc/systemd/system/booted.service <<END
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo booted > /booted'
END
cat > etc/systemd/system/booted.target <<END
[Unit]
DefaultDependencies=no
Wants=booted.service systemd-journald.service
END
mkdir old
pivot_root . old
umount -l /old
exec setpriv --bounding-set=-sys_module,-sys_time,-sys_boot,-sys_rawio,-syslog --inh-caps=-all env -i container=test PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin ${INIT} --system --unit=booted.target --show-status=no
`;

/** The lines of a unit's journal, as they come. */
export interface JournalFollower {
  readonly lines: readonly string[];
  /** The first line, past or to come, that matches. */
  line(pattern: RegExp): Promise<string>;
  /** Forgets what was said. */
  forget(): void;
}

export class Machine implements AsyncDisposable {
  readonly #followers: ChildProcess[] = [];

  private constructor(
    private readonly boot: ChildProcess,
    private readonly cgroup: string,
    private readonly pid: number,
    private readonly release: () => Promise<void>,
  ) {}

  /** Resolves when systemd runs in it and has nothing left to start. */
  static async boot(): Promise<Machine> {
    const dir = await tempDir();
    const root = join(dir.path, 'machine');
    const booted = join(dir.path, 'booted');
    await mkdir(root);
    await execute('mkfifo', [booted]);
    const cgroup = join(cgroupRoot() ?? '', `yggdrasil-test-${process.pid}-${dir.path.slice(-6)}`);
    await mkdir(cgroup);
    const flags = ['--pid', '--fork', '--mount', '--cgroup', '--uts', '--ipc', '--kill-child'];
    // Into the cgroup first: the namespace of cgroups has its root where one is when it is made.
    const enter = 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"';
    const words = ['unshare', ...flags, '--propagation', 'private', '/bin/sh', '-c', BOOT, 'boot', root, ROOT, booted];
    const child = spawn('/bin/sh', ['-c', enter, 'enter', cgroup, ...words], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    const reader = spawn('cat', [booted], { stdio: ['ignore', 'pipe', 'inherit'] });
    const release = async (): Promise<void> => {
      reader.kill('SIGKILL');
      await writeFile(join(cgroup, 'cgroup.kill'), '1');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
      await removeCgroup(cgroup);
      await dir[Symbol.asyncDispose]();
    };
    try {
      const scope = AbortSignal.timeout(PATIENCE_MS);
      const died = once(child, 'exit', { signal: scope }).then(() =>
        Promise.reject(new Error('the machine did not boot')),
      );
      await Promise.race([once(reader.stdout, 'data', { signal: scope }), died]);
      const below = await readFile(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8');
      return new Machine(child, cgroup, Number(below.trim()), release);
    } catch (error) {
      await release();
      throw error;
    }
  }

  /** Runs a command in it as root and gives what it wrote; rejects when it fails. */
  async run(...command: readonly string[]): Promise<string> {
    const { stdout } = await execute('nsenter', [...this.#enter, ...command], { timeout: PATIENCE_MS });
    return stdout.trim();
  }

  /** Writes a file in it. */
  async write(path: string, text: string, mode = '644'): Promise<void> {
    const script = 'mkdir -p "$(dirname "$1")"; printf %s "$2" > "$1.new"; chmod "$3" "$1.new"; mv "$1.new" "$1"';
    await this.run('/bin/sh', '-c', script, 'write', path, text, mode);
  }

  /** One property of a unit, as `systemctl show` has it. */
  property(unit: string, name: string): Promise<string> {
    return this.run('systemctl', 'show', unit, '--value', '-p', name);
  }

  /** Follows the journal of a unit from its beginning. */
  follow(unit: string): JournalFollower {
    const words = [...this.#enter, 'journalctl', '-f', '-n', 'all', '-o', 'cat', '-u', unit];
    const child = spawn('nsenter', words, { stdio: ['ignore', 'pipe', 'ignore'] });
    this.#followers.push(child);
    const lines: string[] = [];
    const said = new Signal<string>('said');
    createInterface({ input: child.stdout }).on('line', (line) => {
      lines.push(line);
      said.emit(line);
    });
    return {
      lines,
      async line(pattern) {
        const past = lines.find((line) => pattern.test(line));
        if (past !== undefined) return past;
        try {
          return await said.next(AbortSignal.timeout(PATIENCE_MS), (line) => pattern.test(line));
        } catch (cause) {
          throw new Error(`${unit} said nothing like ${String(pattern)}:\n${lines.slice(-60).join('\n')}`, { cause });
        }
      },
      forget: () => {
        lines.length = 0;
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const follower of this.#followers) follower.kill('SIGKILL');
    await this.release();
  }

  get #enter(): readonly string[] {
    return ['-t', String(this.pid), '-m', '-p', '-u', '-i', '-C', '--'];
  }
}

/** What was killed in it is collected by process 1, which takes a moment: until then it is busy. */
async function removeCgroup(path: string): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      for (const entry of await readdir(path, { withFileTypes: true })) {
        if (entry.isDirectory()) await removeCgroup(join(path, entry.name));
      }
      await rmdir(path);
      return;
    } catch (error) {
      if (tries === 500) throw error;
      await new Promise((next) => setTimeout(next, 10));
    }
  }
}
