/**
 * The package for Debian, and a clean Debian to install it into: a root of its own, made by debootstrap from the mirror
 * that this machine's apt uses. Its files and mounts are gone when its scope ends; it shares network and processes.
 */
import { execFile, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { tempDir } from './temp.js';
import { ROOT } from './yggd.js';

const execute = promisify(execFile);
const LARGE = 2 ** 26;

/** Why no package can be built here, or false. */
export const packagingMissing: string | false = missing('dpkg-deb', 'readelf', 'npm');
/** Why no clean Debian can be made here, or false. */
export const cleanRootMissing: string | false =
  process.getuid?.() === 0 ? missing('debootstrap', 'chroot', 'mount') : 'only root can make a root of its own';

function missing(...programs: readonly string[]): string | false {
  const absent = programs.filter((name) => spawnSync(name, ['--version']).error !== undefined);
  return absent.length === 0 ? false : `not installed: ${absent.join(', ')}`;
}

export interface DebOptions {
  readonly out: string;
  readonly version?: string;
  readonly arch?: string;
}

/** Builds it, packed lightly; its path. */
export async function buildDeb({ out, version, arch }: DebOptions): Promise<string> {
  const words = ['scripts/deb/build.js', '--fast', '--out', out];
  if (version !== undefined) words.push('--version', version);
  if (arch !== undefined) words.push('--arch', arch);
  const { stdout } = await execute(process.execPath, words, { cwd: ROOT, maxBuffer: LARGE });
  return stdout.trim();
}

/** Runs one of Debian's tools and gives what it printed. */
export async function debianTool(name: string, ...words: readonly string[]): Promise<string> {
  return (await execute(name, words, { maxBuffer: LARGE })).stdout;
}

interface Source {
  readonly site: string;
  readonly release: string;
}

/** Where this machine's apt has Debian itself from. Rejects when it has it from nowhere. */
async function debianSource(): Promise<Source> {
  const format = '$(ORIGIN)|$(COMPONENT)|$(SITE)|$(RELEASE)';
  const text = await debianTool('apt-get', 'indextargets', '--format', format, 'Created-By: Packages');
  const lines = text.split('\n').map((line) => line.split('|'));
  const [, , site, release] =
    lines.find(
      ([origin, component, , suite = '']) => origin === 'Debian' && component === 'main' && !/[-/]/.test(suite),
    ) ?? [];
  if (site === undefined || release === undefined)
    throw new Error('apt knows no mirror of Debian: apt-get update first');
  return { site, release };
}

export class CleanRoot implements AsyncDisposable {
  readonly #children: ChildProcess[] = [];

  private constructor(
    readonly path: string,
    private readonly release: () => Promise<void>,
  ) {}

  /** Makes one, with the packages that this `Depends` names and no more than they need. */
  static async make(depends: string): Promise<CleanRoot> {
    const dir = await tempDir();
    const path = join(dir.path, 'root');
    const release = async (): Promise<void> => {
      for (const name of ['proc', 'sys']) spawnSync('umount', ['--lazy', join(path, name)]);
      // Never through a mount: what is below is this machine's.
      spawnSync('rm', ['-rf', '--one-file-system', path]);
      await dir[Symbol.asyncDispose]();
    };
    try {
      const { site, release: suite } = await debianSource();
      const certificates = site.startsWith('https:') ? ['--include=ca-certificates'] : [];
      await execute('debootstrap', ['--variant=minbase', ...certificates, suite, path, site], { maxBuffer: LARGE });
      const clean = new CleanRoot(path, release);
      await clean.#prepare();
      await clean.run('apt-get', 'update', '-qq');
      await clean.run('apt-get', 'satisfy', '-y', '-qq', '--no-install-recommends', depends);
      return clean;
    } catch (error) {
      await release();
      throw error;
    }
  }

  /** Runs a command in it as root and gives what it wrote; rejects with that when it fails. */
  async run(...command: readonly string[]): Promise<string> {
    try {
      const { stdout } = await execute('chroot', [this.path, ...command], { env: ENVIRONMENT, maxBuffer: LARGE });
      return stdout;
    } catch (error) {
      const { stdout = '', stderr = '' } = error as { readonly stdout?: string; readonly stderr?: string };
      throw new Error(`${command.join(' ')}:\n${stdout}\n${stderr}`, { cause: error });
    }
  }

  /** Starts a command in it as a user and leaves it running; it is killed when the scope ends. */
  start(user: string, ...command: readonly string[]): ChildProcess {
    const words = [`--userspec=${user}:${user}`, this.path, ...command];
    const child = spawn('chroot', words, { env: ENVIRONMENT, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#children.push(child);
    return child;
  }

  /** Puts a file of this machine there; the path in it. */
  async bring(file: string): Promise<string> {
    const name = join('/root', file.slice(file.lastIndexOf('/') + 1));
    await copyFile(file, this.at(name));
    return name;
  }

  /** The path, on this machine, of one in it. */
  at(path: string): string {
    return join(this.path, path);
  }

  /** Every file and directory but what apt and dpkg keep for themselves, logs, and what was brought. */
  async list(): Promise<readonly string[]> {
    const kept = ['/proc', '/sys', '/dev', '/tmp', '/root', '/var/lib/apt', '/var/cache', '/var/lib/dpkg', '/var/log'];
    const prune = kept.flatMap((path, at) => [...(at === 0 ? [] : ['-o']), '-path', path]);
    const text = await this.run('find', '/', '-xdev', '(', ...prune, ')', '-prune', '-o', '-print');
    return text.split('\n').filter(Boolean).sort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL');
    await this.release();
  }

  async #prepare(): Promise<void> {
    for (const name of ['resolv.conf', 'hosts']) await copyFile(join('/etc', name), this.at(`/etc/${name}`));
    const acquire = (await debianTool('apt-config', 'dump'))
      .split('\n')
      .filter((line) => /^Acquire::https?::/.test(line));
    await mkdir(this.at('/etc/apt/apt.conf.d'), { recursive: true });
    await writeFile(this.at('/etc/apt/apt.conf.d/90test'), acquire.map((line) => `${line}\n`).join(''));
    await execute('mount', ['-t', 'proc', 'proc', this.at('/proc')]);
    await execute('mount', ['-t', 'sysfs', '-o', 'ro', 'sysfs', this.at('/sys')]);
    // Nothing of it is started by dpkg: there is no systemd in it, and this machine's is not its own.
    await writeFile(this.at('/usr/sbin/policy-rc.d'), '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  }
}

const ENVIRONMENT = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  DEBIAN_FRONTEND: 'noninteractive',
  LC_ALL: 'C.UTF-8',
  HOME: '/root',
};

/** The words of ExecStart of the unit in a root. */
export async function execStart(root: CleanRoot): Promise<readonly string[]> {
  const unit = await readFile(root.at('/usr/lib/systemd/system/yggd.service'), 'utf8');
  return (/^ExecStart=(.*)$/m.exec(unit)?.[1] ?? '').split(' ');
}
