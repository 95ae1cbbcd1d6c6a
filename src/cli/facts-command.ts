/**
 * `ygg facts` and `ygg canonical-facts`: what the agent reports of this machine. The agent says it itself where one runs;
 * else it is read here, as this user can read it.
 */
import { join } from 'node:path';
import { readFile } from 'node:fs/promises';
import { Option, type Command } from 'commander';
import type { AdminClient } from '../admin/index.js';
import { loadSettings, parseTags } from '../config/index.js';
import { errnoOf } from '../errors.js';
import { readCanonicalFacts, systemSources } from '../facts/index.js';
import { silentLog } from '../log/log.js';
import { printable } from '../message/index.js';
import { systemClock } from '../time.js';
import { asksAgent, withAgentIfThere, type AdminFlags } from './admin-command.js';
import type { Cell } from './output.js';

interface Facts {
  /** The facts of PROTOCOL section 1, in its order. */
  readonly canonical: Readonly<Record<string, unknown>>;
  readonly tags: Readonly<Record<string, string>>;
  /** Undefined where no agent could be asked. */
  readonly dispatchers: Awaited<ReturnType<AdminClient['facts']>>['dispatchers'] | undefined;
}

interface FactsFlags extends AdminFlags {
  readonly format?: 'table' | 'json';
}

export function addFactsCommand(program: Command): void {
  asksAgent(program.command('facts'))
    .description('what the agent reports of this machine: canonical facts, tags, the features of its workers')
    .addOption(new Option('-f, --format <format>', 'as the original has it').choices(['table', 'json']))
    .action(async (flags: FactsFlags) => {
      await withAgentIfThere(flags, async (client, output, problem) => {
        const { canonical, tags, dispatchers } = await factsFrom(client, flags);
        tellProblem(problem);
        if (flags.json === true || flags.format === 'json') {
          const features = dispatchers?.map((each): [string, unknown] => [
            each.directive,
            { worker: each.worker, features: each.features },
          ]);
          output.json({
            ...{ source: client === undefined ? 'this command' : 'the agent', canonical_facts: canonical, tags },
            dispatchers: features === undefined ? null : Object.fromEntries(features),
          });
          return;
        }
        output.table(
          ['FACT', 'VALUE'],
          [
            ...Object.entries(canonical).map(([name, value]) => [name, cellOf(value)]),
            ...Object.entries(tags).map(([name, value]) => [`tag ${name}`, value]),
            ...(dispatchers ?? []).map(({ directive, worker, features }) => [
              `directive ${directive}`,
              [worker, ...Object.entries(features).map(([name, value]) => `${name}=${value}`)].join(' '),
            ]),
          ],
        );
      });
    });
  asksAgent(program.command('canonical-facts'), 'the same: it is JSON in any case')
    .description('the canonical facts as one JSON object, as the original prints it')
    .action(async (flags: AdminFlags) => {
      await withAgentIfThere(flags, async (client, output) => {
        const { canonical } = await factsFrom(client, flags);
        // The original ends it without a newline, which only a person misses.
        output.bytes(Buffer.from(goJson(canonical) + (output.isTerminal ? '\n' : '')));
      });
    });
}

async function factsFrom(client: AdminClient | undefined, flags: AdminFlags): Promise<Facts> {
  if (client === undefined) return factsHere(flags);
  const { canonicalFacts, tags, dispatchers } = await client.facts();
  return { canonical: JSON.parse(canonicalFacts) as Facts['canonical'], tags, dispatchers };
}

/** As an agent with these settings would find them. */
async function factsHere({ config }: AdminFlags): Promise<Facts> {
  const loaded = await loadSettings({ argv: config === undefined ? [] : [`--config=${config}`] });
  // Without a broker, say, there are no settings for an agent; the machine has its facts all the same.
  const settings = loaded.kind === 'ok' ? loaded.settings : undefined;
  const canonical = await readCanonicalFacts({
    ...{ sources: systemSources, clock: systemClock, log: silentLog, factsFile: settings?.factsFile },
  });
  const tags = settings === undefined ? {} : await tagsIn(join(settings.configDir, 'tags.toml'));
  return { canonical: { ...canonical }, tags, dispatchers: undefined };
}

async function tagsIn(path: string): Promise<Readonly<Record<string, string>>> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    if (errnoOf(error) !== 'ENOENT') tellProblem(`the tags in ${path} cannot be read: ${errnoOf(error) ?? ''}`);
    return '';
  });
  const parsed = parseTags(text, path);
  if (parsed.kind === 'ok') return parsed.tags;
  tellProblem(parsed.problems.join('; '));
  return {};
}

function tellProblem(text: string): void {
  if (text !== '') process.stderr.write(`ygg: ${printable(text)}\n`);
}

function cellOf(value: unknown): Cell {
  const text = Array.isArray(value) ? value.join(', ') : String(value);
  return text === '' ? '-' : text;
}

/** JSON as Go writes it: without blanks, and with what HTML could take for its own escaped. */
export function goJson(value: unknown): string {
  return printable(JSON.stringify(value)).replace(/[<>&]/g, (char) => `\\u00${char.charCodeAt(0).toString(16)}`);
}
