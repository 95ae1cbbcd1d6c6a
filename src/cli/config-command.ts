/** `ygg config`: the settings that the running agent has, whether a file is right, and what a setting is. */
import { InvalidArgumentError, type Command } from 'commander';
import type { AdminClient } from '../admin/index.js';
import { explainSetting, loadSettings, settingOf, type Explanation, type Problem } from '../config/index.js';
import { asksAgent, withAgent, withAgentIfThere, type AdminFlags } from './admin-command.js';
import { checkConfig, EX_CONFIG, findingLines, soundLine, type ConfigCheck } from './check-config.js';
import { endWithReader, Output, type Cell } from './output.js';

type Setting = Awaited<ReturnType<AdminClient['config']>>['settings'][number];
type Known = Exclude<Explanation, { kind: 'unknown' }>;

export function addConfigCommand(program: Command): void {
  const config = program.command('config').description('the settings of the agent (default: show)');
  asksAgent(config.command('show', { isDefault: true }))
    .description('the settings that the running agent has, and where each comes from; secrets are left out')
    .option('--given', 'only those that are not left at their default')
    .action(async (flags: AdminFlags & { readonly given?: boolean }) => {
      await withAgent(flags, async (client, output) => {
        const { settings, file } = await client.config();
        const shown = settings.filter(({ origin }) => flags.given !== true || origin !== 'default');
        if (flags.json === true) output.json({ file: file || null, settings: shown.map(settingView) });
        else output.table(['SETTING', 'VALUE', 'FROM', ''], shown.map(settingRow));
      });
    });
  config
    .command('check')
    .description('tell all that is wrong with a configuration, as `yggd --check-config` does for this user')
    .argument('[file]', 'the file (default: the one that `yggd` would read)')
    .option('--json', 'print one JSON document')
    .action(async (file: string | undefined, { json = false }: { readonly json?: boolean }) => {
      endWithReader();
      // One word, so that no name of a file is taken for a flag.
      const loaded = await loadSettings({ argv: file === undefined ? [] : [`--config=${file}`] });
      if (loaded.kind !== 'ok' && loaded.kind !== 'invalid') throw new Error(`${String(file)} is no file`);
      const check = await checkConfig(loaded);
      if (check.sound === undefined) process.exitCode = EX_CONFIG;
      const output = new Output();
      if (json) output.json(checkView(check));
      else for (const line of findingLines(check)) process.stderr.write(`${line}\n`);
      if (!json && check.sound !== undefined) output.line(soundLine(check.sound));
    });
  asksAgent(config.command('explain'))
    .description('what a setting is: its key, flag or variable, or its name in the original')
    .argument('<key>', 'such as log-level', keyArgument)
    .action(async (known: Known, flags: AdminFlags) => {
      await withAgentIfThere(flags, async (client, output, problem) => {
        const running = (await client?.config())?.settings.find(({ name }) => name === settingNameOf(known));
        if (flags.json === true) output.json(explanationView(known, running));
        else output.fields(explanationFields(known, running, problem));
      });
    });
}

function keyArgument(word: string): Known {
  const explained = explainSetting(word);
  if (explained.kind !== 'unknown') return explained;
  const { nearest } = explained;
  const hint = nearest === undefined ? '`yggd --help` lists all settings.' : `Did you mean ${nearest}?`;
  throw new InvalidArgumentError(`there is no such setting. ${hint}`);
}

function settingRow({ name, value, origin, source, line, needsRestart }: Setting): readonly Cell[] {
  return [name, value || '-', placeText({ origin, source, line }), needsRestart ? 'has changed: needs a restart' : ''];
}

function placeText({ origin, source, line }: Pick<Setting, 'origin' | 'source' | 'line'>): string {
  if (source === '') return origin;
  return line === 0 ? source : `${source}:${line}`;
}

/** What we write as TOML is JSON as well. */
function settingView({ name, value, origin, source, line, needsRestart }: Setting): unknown {
  return {
    ...{ name, value: value === '' ? null : (JSON.parse(value) as unknown), origin },
    ...{ source: source || null, line: line || null, needs_restart: needsRestart },
  };
}

function checkView({ problems, warnings, sound }: ConfigCheck): unknown {
  const view = ({ code, text, source, line, column }: Problem): unknown => ({
    ...{ code, text, source: source ?? null, line: line ?? null, column: column ?? null },
  });
  return {
    ok: sound !== undefined,
    file: sound?.file ?? null,
    problems: problems.map(view),
    warnings: warnings.map(view),
  };
}

/** The setting that an explanation is about. */
function settingNameOf(known: Known): string | undefined {
  if (known.kind === 'setting') return known.name;
  return known.kind === 'original' ? known.to : undefined;
}

function explanationView(known: Known, running: Setting | undefined): unknown {
  const current = running === undefined ? null : settingView(running);
  switch (known.kind) {
    case 'setting': {
      const { defaultAsRoot = null, defaultAsUser = null, isReloadable, ...rest } = known;
      return {
        ...rest,
        default_as_root: defaultAsRoot,
        default_as_user: defaultAsUser,
        reloadable: isReloadable,
        current,
      };
    }
    case 'original':
    case 'worker-key':
      return { ...known, current };
  }
}

function explanationFields(
  known: Known,
  running: Setting | undefined,
  problem: string,
): readonly (readonly [string, Cell])[] {
  const current: readonly [string, Cell] = [
    'now',
    running === undefined ? problem : `${running.value || 'not set'} (${placeText(running)})${restartText(running)}`,
  ];
  switch (known.kind) {
    case 'setting': {
      const { name, doc, group, expects, flag, variable, isReloadable, original } = known;
      return [
        ['setting', name],
        ['what', doc],
        ['group', group],
        ['value', expects],
        ['default', defaultText(known)],
        ['flag', settingOf(name).kind.isList === true ? `${flag}, may be repeated` : flag],
        ['variable', variable],
        ['reload', isReloadable ? 'takes effect with `ygg reload`' : 'needs a restart'],
        ...(original === undefined ? [] : [['original', original] as const]),
        current,
      ];
    }
    case 'original': {
      const { name, generations, note, to } = known;
      return [
        ['setting', `${name}, of the original (${generations.join(', ')})`],
        ['what', to === undefined ? 'accepted, and has no effect here' : `the original’s name of ${to}`],
        ...(note === '' ? [] : [['note', note] as const]),
        ...(to === undefined ? [] : [current]),
      ];
    }
    case 'worker-key':
      return [
        ['setting', `${known.name}, in the file of a worker (workers/NAME.toml)`],
        ['what', known.doc],
        ...(known.expects === undefined ? [] : [['value', known.expects] as const]),
      ];
  }
}

function restartText({ needsRestart }: Setting): string {
  return needsRestart ? '; the configuration has another value, which needs a restart' : '';
}

function defaultText({ defaultAsRoot, defaultAsUser }: Extract<Known, { kind: 'setting' }>): string {
  if (defaultAsRoot === undefined) return 'none';
  if (defaultAsRoot === defaultAsUser) return defaultAsRoot;
  return `as root ${defaultAsRoot}, else ${defaultAsUser ?? ''}`;
}
