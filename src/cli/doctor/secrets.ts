/** All secrets of the agent that this user may read, so that they can be looked for in what is given away. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { loadWorkerSettings } from '../../config/index.js';
import { parseWorkerName } from '../../message/index.js';
import { Redactor } from './redact.js';
import type { Target } from './target.js';
import type { UnitLook } from './unit-look.js';

/** Shorter values of variables are words: yes, debug, a port. */
const SHORTEST_VALUE = 6;

export async function redactorFor({ settings, loaded, pid }: Target, unit: UnitLook): Promise<Redactor> {
  const redactor = new Redactor();
  const textOf = (path: string): Promise<string> => readFile(path, 'utf8').catch(() => '');
  if (settings !== undefined) {
    const { keyFile, passwordFile, proxyCredentialsFile, stateDir, configDir, addressPassword } = settings;
    redactor.add(addressPassword?.reveal());
    if (keyFile !== undefined) redactor.addLines(await textOf(keyFile));
    for (const file of [passwordFile, proxyCredentialsFile]) {
      const secret = file === undefined ? '' : (await textOf(file)).trim();
      redactor.add(secret);
      redactor.add(secret.slice(secret.indexOf(':') + 1));
    }
    const file = loaded.kind === 'ok' ? loaded.file : join(configDir, 'config.toml');
    for (const text of [settings.proxy ?? '', settings.broker.join(' '), file === undefined ? '' : await textOf(file)])
      redactor.addFrom(text);
    const embedded = /"password"\s*:\s*"([^"]+)"/.exec(await textOf(join(stateDir, 'embedded-broker.json')));
    redactor.add(embedded?.[1]);
    await addWorkers(redactor, configDir);
  }
  // Of the agent and of whoever looks: both may name brokers and proxies with their passwords.
  for (const path of [`/proc/${pid ?? 'self'}/environ`, `/proc/${pid ?? 'self'}/cmdline`, '/proc/self/cmdline'])
    redactor.addFrom((await textOf(path)).replaceAll('\0', '\n'));
  for (const { text } of unit.kind === 'found' ? unit.files : []) {
    redactor.addFrom(text);
    for (const [, value = ''] of text.matchAll(/^\s*Environment\s*=(.*)$/gm))
      for (const [, word = ''] of value.matchAll(/[A-Za-z_]\w*=("[^"]*"|'[^']*'|[^\s"']+)/g)) addValue(redactor, word);
  }
  return redactor;
}

async function addWorkers(redactor: Redactor, configDir: string): Promise<void> {
  for (const file of await readdir(join(configDir, 'workers')).catch(() => [])) {
    const name = parseWorkerName(file.replace(/\.toml$/, ''));
    const read = name === undefined ? undefined : await loadWorkerSettings({ configDir, name });
    if (read?.kind !== 'ok') continue;
    for (const value of Object.values(read.settings.env)) addValue(redactor, value);
    for (const argument of read.settings.args) addValue(redactor, argument.replace(/^-[^=]*=?/, ''));
  }
}

function addValue(redactor: Redactor, word: string): void {
  const value = word.replace(/^["']|["']$/g, '');
  if (value.length >= SHORTEST_VALUE) redactor.add(value);
}
