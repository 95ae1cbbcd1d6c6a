/**
 * What only the running agent knows, for the completion scripts: a TAB asks it, and waits for a moment at most. Where no
 * agent answers there is nothing, and never a complaint: it would stand in the middle of the line that is typed.
 */
import { AdminClient } from '../../admin/index.js';
import { isName } from '../../message/index.js';
import { socketOf, type AdminFlags } from '../admin-command.js';
import type { Live } from './values.js';

/** As many as a person may want to look through. */
const MOST = 200;

export interface LiveValue {
  readonly value: string;
  readonly doc: string;
}

/** Values as the agent has them. Rejects where it does not answer. `line` is what was typed: it may name the agent. */
export async function liveValues(what: Live, line: readonly string[]): Promise<readonly LiveValue[]> {
  using client = await AdminClient.connect(await socketOf(agentOf(line)));
  return (await ask(client, what)).filter(isHarmless);
}

/** The flags that name the agent, in words that may be cut at `=` (bash) or not. */
export function agentOf(line: readonly string[]): AdminFlags {
  const words = line.flatMap((word) => (word.startsWith('--') ? word.split(/=(.*)/s, 2) : [word]));
  const valueOf = (flag: string): string | undefined => {
    const [next, afterNext] = words.slice(words.lastIndexOf(flag) + 1);
    return words.includes(flag) ? (next === '=' ? afterNext : next) : undefined;
  };
  const [runtimeDir, config] = [valueOf('--runtime-dir'), valueOf('--config')];
  return { ...(runtimeDir && { runtimeDir }), ...(config && { config }) };
}

async function ask(client: AdminClient, what: Live): Promise<readonly LiveValue[]> {
  if (what === 'keys') {
    const keys: LiveValue[] = [];
    const filter = { state: '', directive: '', before: 0n, after: 0n, limit: MOST, contentLimit: 0n };
    for await (const { key, state, directive } of client.messages(filter))
      keys.push({ value: String(key), doc: `${state}, ${directive}` });
    return keys;
  }
  const { workers } = await client.status();
  if (what === 'workers') return workers.map(({ name, state }) => ({ value: name, doc: state }));
  return workers.flatMap(({ name, directives }) => directives.map((value) => ({ value, doc: name })));
}

/** The scripts hand it to a shell: only what is a name, whatever the agent says. */
function isHarmless({ value, doc }: LiveValue): boolean {
  return isName(value) && /^[\x20-\x7e]*$/.test(doc);
}
