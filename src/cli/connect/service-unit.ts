/**
 * The agent's unit, through systemd's D-Bus interface (org.freedesktop.systemd1(5)): enabled and started, stopped and
 * disabled, and what is known when it does not come up.
 */
import { execFile } from 'node:child_process';
import type { Bus, Call } from '../../dbus/index.js';
import { AgentError, errorText } from '../../errors.js';
import { printable } from '../../message/index.js';
import type { Millis } from '../../time.js';

const SYSTEMD = 'org.freedesktop.systemd1';
const ROOT_PATH = '/org/freedesktop/systemd1';
const MANAGER = `${SYSTEMD}.Manager`;
export const UNIT = 'yggd.service';

const LOG_LINES = 10;
const LOG_WITHIN: Millis = 5_000;

export interface UnitState {
  /** `active`, `inactive`, `failed`, `activating` … */
  readonly active: string;
  /** `loaded`, `not-found`, `masked` … */
  readonly load: string;
  /** `enabled`, `disabled` … */
  readonly file: string;
}

export interface ServiceUnitOptions {
  readonly bus: Bus;
  /** How long a job may take: longer than the unit's own time-outs. */
  readonly jobWithin: Millis;
  readonly scope: AbortSignal;
}

export class ServiceUnit {
  constructor(private readonly options: ServiceUnitOptions) {}

  /** Throws `dbus.refused` where no systemd is. */
  async state(): Promise<UnitState> {
    const [path] = await this.#manager('LoadUnit', 's', [UNIT]);
    const at = { destination: SYSTEMD, path: String(path), interface: `${SYSTEMD}.Unit` };
    const { bus } = this.options;
    const read = async (name: string): Promise<string> => String(await bus.property(at, name));
    return { active: await read('ActiveState'), load: await read('LoadState'), file: await read('UnitFileState') };
  }

  async enable(): Promise<void> {
    await this.#manager('EnableUnitFiles', 'asbb', [[UNIT], false, false]);
    await this.#manager('Reload', '', []);
  }

  async disable(): Promise<void> {
    await this.#manager('DisableUnitFiles', 'asb', [[UNIT], false]);
    await this.#manager('Reload', '', []);
  }

  /** Starts it, or starts it anew, and waits until it is active. Throws `connect.not_started` with why it is not. */
  async start(how: 'StartUnit' | 'RestartUnit'): Promise<void> {
    const result = await this.#job(how);
    const { active } = await this.state();
    if (result === 'done' && active === 'active') return;
    throw new AgentError('connect.not_started', await this.#whyNot(result, active), { result, active });
  }

  async stop(): Promise<void> {
    const result = await this.#job('StopUnit');
    if (result !== 'done')
      throw new AgentError('dbus.refused', `systemd could not stop ${UNIT}: ${result}`, { result });
  }

  /** Queues a job and waits for its result: `done`, `failed`, `timeout`, `dependency` … */
  async #job(method: 'StartUnit' | 'RestartUnit' | 'StopUnit'): Promise<string> {
    const { bus, jobWithin, scope } = this.options;
    const listening = new AbortController();
    const results = new Map<string, string>();
    let heard = (): void => undefined;
    // Before the job is queued: it may be over before its path is known.
    await bus.listen(
      { destination: SYSTEMD, interface: MANAGER, member: 'JobRemoved' },
      ({ body: [, job, , result] }) => {
        results.set(String(job), String(result));
        heard();
      },
      listening.signal,
    );
    const began = performance.now();
    let deadline: NodeJS.Timeout | undefined;
    const end = (): void => heard();
    try {
      await this.#manager('Subscribe', '', []);
      const job = String((await this.#manager(method, 'ss', [UNIT, 'replace']))[0]);
      await new Promise<void>((resolve) => {
        heard = () =>
          results.has(job) || scope.aborted || performance.now() - began >= jobWithin ? resolve() : undefined;
        deadline = setTimeout(end, jobWithin);
        scope.addEventListener('abort', end, { once: true });
        heard();
      });
      scope.throwIfAborted();
      return results.get(job) ?? `systemd has not finished it within ${Math.round(jobWithin / 1000)} s`;
    } finally {
      clearTimeout(deadline);
      scope.removeEventListener('abort', end);
      listening.abort();
    }
  }

  async #whyNot(result: string, active: string): Promise<string> {
    const lines = [`${UNIT} did not start: ${printable(result)}, now ${printable(active)}${await this.#ending()}`];
    const log = await lastLogLines();
    if (log.length > 0) lines.push('its last log lines:', ...log.map((line) => `  ${printable(line)}`));
    else lines.push(`look at its log: journalctl -u ${UNIT}`);
    return lines.join('\n');
  }

  /** How its process ended, as far as systemd tells. */
  async #ending(): Promise<string> {
    try {
      const [path] = await this.#manager('LoadUnit', 's', [UNIT]);
      const at = { destination: SYSTEMD, path: String(path), interface: `${SYSTEMD}.Service` };
      const [outcome, status] = [
        await this.options.bus.property(at, 'Result'),
        await this.options.bus.property(at, 'ExecMainStatus'),
      ];
      return ` (result ${printable(String(outcome))}, exit status ${printable(String(status))})`;
    } catch {
      // Only an addition to what is known already.
      return '';
    }
  }

  #manager(member: string, signature: string, body: readonly unknown[]): Promise<readonly unknown[]> {
    const call: Call = { destination: SYSTEMD, path: ROOT_PATH, interface: MANAGER, member };
    return this.options.bus.call(signature === '' ? call : { ...call, signature, body });
  }
}

/** The end of the unit's log; empty where there is no journal, or this user may not read it. */
function lastLogLines(): Promise<readonly string[]> {
  const args = ['--unit', UNIT, '--lines', String(LOG_LINES), '--no-pager', '--quiet', '--output', 'cat'];
  return new Promise((resolve) => {
    execFile('journalctl', args, { timeout: LOG_WITHIN, maxBuffer: 1024 * 1024 }, (error, stdout) =>
      resolve(error === null ? stdout.split('\n').filter((line) => line !== '') : []),
    );
  });
}

/** Whether the error says that there is no systemd to ask: no bus, or nobody of its name on it. */
export function isWithoutSystemd(error: unknown): boolean {
  if (!(error instanceof AgentError)) return false;
  return (
    error.code === 'dbus.unavailable' ||
    (error.code === 'dbus.refused' && /ServiceUnknown|NameHasNoOwner|Spawn/.test(errorText(error.details['name'])))
  );
}
