/** The ground that `connect` and `disconnect` stand on: root, the system bus, the daemon's group. */
import { Bus, systemBusAddress } from '../../dbus/index.js';
import { AgentError } from '../../errors.js';
import { Users } from '../../process/index.js';
import type { Millis } from '../../time.js';
import { Registration } from './registration.js';
import { ServiceUnit } from './service-unit.js';
import type { Steps } from './steps.js';

/** The group of the shipped unit's user (sysusers.d). */
const DAEMON_GROUP = 'yggdrasil';
/** A service that has to be started first takes seconds. */
const ANSWER_WITHIN: Millis = 30_000;
/** Longer than TimeoutStartSec and TimeoutStopSec of the unit. */
const JOB_WITHIN: Millis = 120_000;
/** The registration service asks a server far away, more than once. */
const REGISTER_WITHIN: Millis = 300_000;

/** Throws `connect.not_root`: before anything is half done. */
export function requireRoot(command: string): void {
  if (process.geteuid?.() === 0) return;
  throw new AgentError('connect.not_root', `only root may ${command} this machine: sudo ygg ${command} …`);
}

/** The group that may read the agent's key; root's alone where there is none, with a warning. Throws `connect.usage`. */
export async function daemonGroup(name: string | undefined, steps: Steps): Promise<number> {
  const gid = await new Users().gid(name ?? DAEMON_GROUP);
  if (gid !== undefined) return gid;
  if (name !== undefined)
    throw new AgentError('connect.usage', `there is no group ${JSON.stringify(name)} on this machine`);
  steps.tell(
    'key',
    `there is no group ${DAEMON_GROUP} yet (systemd-sysusers makes it): only root may read the key`,
    'warning',
  );
  return 0;
}

/** The system bus, reached when it is first needed, and the two services on it. */
export class Machine implements AsyncDisposable {
  #bus: Bus | undefined;

  constructor(
    private readonly scope: AbortSignal,
    /** Instead of the usual patience with a registration, or with a job of systemd. */
    private readonly patience: Millis | undefined,
  ) {}

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#bus?.[Symbol.asyncDispose]();
    this.#bus = undefined;
  }

  /** Throws `dbus.unavailable`. */
  async unit(): Promise<ServiceUnit> {
    return new ServiceUnit({ bus: await this.#reach(), jobWithin: this.patience ?? JOB_WITHIN, scope: this.scope });
  }

  /** Throws `dbus.unavailable`. */
  async registration(): Promise<Registration> {
    const { LC_ALL, LC_MESSAGES, LANG } = process.env;
    const locale = (LC_ALL || LC_MESSAGES || LANG || '').replace(/^(C|POSIX)(\..*)?$/, '');
    const registerWithin = this.patience ?? REGISTER_WITHIN;
    return new Registration({ bus: await this.#reach(), registerWithin, scope: this.scope, locale });
  }

  async #reach(): Promise<Bus> {
    this.#bus ??= await Bus.connect({
      address: systemBusAddress(process.env),
      answerWithin: ANSWER_WITHIN,
      scope: this.scope,
    });
    return this.#bus;
  }
}
