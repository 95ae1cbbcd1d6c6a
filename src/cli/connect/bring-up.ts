/** The agent's unit enabled, started and active; and what to type where there is no systemd to do it. */
import { AgentError } from '../../errors.js';
import { printable } from '../../message/index.js';
import { isWithoutSystemd, UNIT, type ServiceUnit } from './service-unit.js';
import type { Steps } from './steps.js';
import { whileTelling } from './waiting.js';

export interface BringUpOptions {
  /** Makes the connection to systemd. Throws `dbus.*`. */
  readonly unit: () => Promise<ServiceUnit>;
  readonly configFile: string;
  /** Whether a running agent has to take in something new. */
  readonly isChanged: boolean;
  readonly steps: Steps;
}

/** Throws `connect.not_started` with why it is not up. */
export async function bringUp({ unit: reach, configFile, isChanged, steps }: BringUpOptions): Promise<void> {
  let unit;
  let state;
  try {
    unit = await reach();
    state = await unit.state();
  } catch (error) {
    if (isWithoutSystemd(error)) throw byHand(configFile, 'there is no systemd to start the agent', error);
    throw error;
  }
  if (state.load !== 'loaded') {
    const why =
      state.load === 'masked' ? 'is masked (systemctl unmask yggd)' : `is not installed (systemd says: ${state.load})`;
    throw byHand(configFile, `the unit ${UNIT} ${why}`);
  }
  if (state.file === 'enabled') steps.tell('unit', `${UNIT} is enabled`, 'unchanged');
  else {
    try {
      await unit.enable();
    } catch (error) {
      if (!(error instanceof AgentError && error.code === 'dbus.refused')) throw error;
      // Often a unit of the original stands where ours has its second name.
      const text = `the machine is enrolled, but systemd does not enable ${UNIT}: ${printable(error.message)}`;
      throw new AgentError('connect.not_started', text, {}, { cause: error });
    }
    steps.tell('unit', `${UNIT} is enabled: it starts with the machine`);
  }
  const isUp = state.active === 'active';
  if (isUp && !isChanged) {
    steps.tell('agent', `${UNIT} is active`, 'unchanged');
    return;
  }
  const how = isUp ? 'RestartUnit' : 'StartUnit';
  await whileTelling(`waiting for ${UNIT}`, () => unit.start(how));
  steps.tell('agent', `${UNIT} is active${isUp ? ' again, with the new settings' : ''}`);
}

function byHand(configFile: string, why: string, cause?: unknown): AgentError {
  return new AgentError(
    'connect.not_started',
    `the machine is enrolled, but ${why}: start it by hand, as its user: yggd --config ${configFile}`,
    {},
    { cause },
  );
}
