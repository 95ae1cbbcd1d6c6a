/** `ygg connect` and `ygg disconnect` as they ship, on the bus and the directories of a test. */
import { spawn } from 'node:child_process';
import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { startServices, type MachineServices, type Plan } from './machine-services.js';
import { tempDir, type TempDir } from './temp.js';
import { ROOT } from './yggd.js';

export interface Run {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

const PROGRAM = join(ROOT, 'dist/ygg.js');
const PATIENCE_MS = 60_000;

export interface Typed {
  /** What is waited for on the screen before it is typed. */
  readonly after: RegExp;
  readonly text: string;
}

/** A machine to enrol: its services, and a directory with its configuration. */
export class Machine implements AsyncDisposable {
  private constructor(
    private readonly bus: MachineServices | undefined,
    private readonly dir: TempDir,
  ) {}

  /** Without a plan there is no bus. `toml` is the configuration file's text; without it there is none. */
  static async make(plan: Plan | undefined, toml?: string): Promise<Machine> {
    const dir = await tempDir();
    // The agent may run as another user.
    await chmod(dir.path, 0o755);
    await mkdir(join(dir.path, 'config'));
    if (toml !== undefined) await writeFile(join(dir.path, 'config/config.toml'), toml);
    return new Machine(plan === undefined ? undefined : await startServices(plan), dir);
  }

  get services(): MachineServices {
    if (this.bus === undefined) throw new Error('this machine has no bus');
    return this.bus;
  }

  path(...names: string[]): string {
    return join(this.dir.path, ...names);
  }

  config(name = 'config.toml'): Promise<string> {
    return readFile(this.path('config', name), 'utf8');
  }

  /** Mode, uid and gid of a file in the configuration's directory. */
  async modeOf(name: string): Promise<string> {
    const { mode, uid, gid } = await stat(this.path('config', name));
    return `${(mode & 0o777).toString(8)} ${uid}:${gid}`;
  }

  /** Runs `ygg` about this machine. */
  ygg(words: readonly string[], how: { readonly uid?: number; readonly interruptAt?: string } = {}): Promise<Run> {
    return this.#run(process.execPath, [PROGRAM, ...this.#about(words)], how, []);
  }

  async yggJson(words: readonly string[]): Promise<Readonly<Record<string, unknown>>> {
    return JSON.parse((await this.ygg([...words, '--json'])).stdout) as Readonly<Record<string, unknown>>;
  }

  /** As `ygg`, on a pseudo-terminal on which somebody types. */
  yggTyped(words: readonly string[], typed: readonly Typed[]): Promise<Run> {
    const line = [process.execPath, PROGRAM, ...this.#about(words)].map((word) => `'${word}'`).join(' ');
    return this.#run('script', ['--quiet', '--return', '--command', line, '/dev/null'], {}, typed);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.bus?.[Symbol.asyncDispose]();
    await this.dir[Symbol.asyncDispose]();
  }

  #about(words: readonly string[]): readonly string[] {
    return [...words, '--config', this.path('config/config.toml')];
  }

  async #run(
    program: string,
    words: readonly string[],
    { uid, interruptAt }: { readonly uid?: number; readonly interruptAt?: string },
    typed: readonly Typed[],
  ): Promise<Run> {
    const bus = this.bus?.env ?? { DBUS_SYSTEM_BUS_ADDRESS: `unix:path=${this.path('no-bus')}` };
    const child = spawn(program, words, {
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: PATIENCE_MS,
      env: {
        PATH: process.env['PATH'],
        HOME: '/nonexistent',
        NODE_V8_COVERAGE: uid === undefined ? process.env['NODE_V8_COVERAGE'] : '',
        ...bus,
      },
      ...(uid === undefined ? {} : { uid, gid: uid }),
    });
    const ended = new Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>(
      (resolve, reject) => {
        child.once('error', reject);
        child.once('exit', (code, signal) => resolve({ code, signal }));
      },
    );
    if (typed.length === 0) child.stdin.end();
    else type(child, typed);
    if (interruptAt !== undefined) void this.services.call(interruptAt).then(() => child.kill('SIGINT'));
    const [end, stdout, stderr] = await Promise.all([ended, text(child.stdout), text(child.stderr)]);
    return { ...end, stdout, stderr };
  }
}

function type({ stdin, stdout }: ReturnType<typeof spawn>, typed: readonly Typed[]): void {
  let screen = '';
  const left = [...typed];
  stdin?.on('error', () => undefined);
  stdout?.on('data', (chunk: Buffer) => {
    screen += chunk.toString();
    const [next] = left;
    if (next === undefined || !next.after.test(screen)) return;
    left.shift();
    stdin?.write(next.text);
  });
}
