/**
 * A network of a test's own that really loses packets: a network namespace, a veth pair into it, and a rule in it that
 * drops packets by chance, both ways. Needs root, ip and iptables. All of it is gone when its scope ends.
 */
import { execFile, execFileSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** For `fault(…, { skip: lossyNetMissing })`: why there can be none here, or false. */
export const lossyNetMissing: string | false = whyMissing();

function whyMissing(): string | false {
  if (process.getuid?.() !== 0) return 'only root can make a network namespace';
  for (const [command, from] of [
    ['ip', 'iproute2'],
    ['iptables', 'iptables'],
  ] as const) {
    try {
      execFileSync(command, ['-V'], { stdio: 'ignore' });
    } catch {
      return `${command} is not installed (apt-get install ${from})`;
    }
  }
  return false;
}

export interface LossyNet extends AsyncDisposable {
  /** The address of this side, where what is inside finds us. */
  readonly host: string;
  /** Words before a command that is to run inside. */
  readonly inside: readonly string[];
  /** Packets that were dropped so far. */
  dropped(): Promise<number>;
}

/** `loss` is the part of packets that is dropped, each way. */
export async function lossyNet(loss: number): Promise<LossyNet> {
  // Names of interfaces have at most 15 letters.
  const id = `${process.pid.toString(36)}${randomInt(36 ** 3).toString(36)}`;
  const [name, here, there] = [`ygg-${id}`, `yga${id}`, `ygb${id}`];
  // A network of four addresses out of 10.213.0.0/16, by chance.
  const third = randomInt(256);
  const fourth = randomInt(64) * 4;
  const [host, guest] = [`10.213.${third}.${fourth + 1}`, `10.213.${third}.${fourth + 2}`];
  const inside = ['ip', 'netns', 'exec', name];
  const remove = async (): Promise<void> => {
    // Its end of the pair goes with it, and so does ours.
    await run('ip', ['netns', 'delete', name]).catch(() => undefined);
    await run('ip', ['link', 'delete', here]).catch(() => undefined);
  };
  try {
    await run('ip', ['netns', 'add', name]);
    await run('ip', ['link', 'add', here, 'type', 'veth', 'peer', 'name', there, 'netns', name]);
    await run('ip', ['addr', 'add', `${host}/30`, 'dev', here]);
    await run('ip', ['link', 'set', here, 'up']);
    await run('ip', ['-n', name, 'addr', 'add', `${guest}/30`, 'dev', there]);
    for (const device of ['lo', there]) await run('ip', ['-n', name, 'link', 'set', device, 'up']);
    for (const [chain, flag] of [
      ['INPUT', '-i'],
      ['OUTPUT', '-o'],
    ] as const) {
      const chance = ['-m', 'statistic', '--mode', 'random', '--probability', String(loss)];
      await run('ip', ['netns', 'exec', name, 'iptables', '-A', chain, flag, there, ...chance, '-j', 'DROP']);
    }
  } catch (error) {
    await remove();
    throw error;
  }
  return {
    host,
    inside,
    dropped: async () => {
      const listed = await run('ip', ['netns', 'exec', name, 'iptables', '-L', '-v', '-x', '-n']);
      return [...listed.stdout.matchAll(/^\s*(\d+)\s+\d+\s+DROP/gm)].reduce((sum, [, n]) => sum + Number(n), 0);
    },
    [Symbol.asyncDispose]: remove,
  };
}
