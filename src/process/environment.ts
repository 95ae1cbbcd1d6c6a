/**
 * The environment of a worker: exactly the variables of PROTOCOL section 2, nothing inherited.
 */
import type { EnvironmentBase } from './ports.js';

/** What a worker's file may not set: the agent's own names, and those that change which code the worker runs. */
const RESERVED = /^(PATH|NODE_OPTIONS|YGG_.*|LD_.*)$/;

/** A name the shell and every language can read. Also keeps `=` and NUL out. */
const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** Whether a worker's file may set this variable. */
export function isAllowedVariable(name: string, value: string): boolean {
  return VARIABLE.test(name) && !RESERVED.test(name) && !value.includes('\0');
}

/** The whole environment for one spawn. `extra` comes from the worker's file; what it may not set is left out. */
export function workerEnvironment(
  base: EnvironmentBase,
  socketAddress: string,
  extra: Readonly<Record<string, string>>,
): Record<string, string> {
  const environment: Record<string, string> = {
    ...base.proxy,
    PATH: base.path,
    YGG_SOCKET_ADDR: socketAddress,
    YGG_CONFIG_DIR: base.configDir,
    YGG_LOG_LEVEL: base.logLevel().toUpperCase(),
    YGG_CLIENT_ID: base.clientId(),
  };
  for (const [name, value] of Object.entries(extra)) {
    if (isAllowedVariable(name, value)) environment[name] = value;
  }
  return environment;
}
