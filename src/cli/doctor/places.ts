/** The directories and sockets of the agent: whether it can use them, and who else could change them. */
import { join } from 'node:path';
import type { Settings } from '../../config/index.js';
import { adminSocket } from '../../admin/index.js';
import { errnoOf, errorText } from '../../errors.js';
import { lookAtFile, modeText, type Account, type FileLook } from './account.js';
import { checkOf, type Finding } from './finding.js';

interface Rule {
  readonly what: string;
  /** The agent writes there. */
  readonly isWritten: boolean;
  /** Bits of the mode that may not be set. */
  readonly forbidden: number;
  /** It is there only while the agent runs. */
  readonly isMade: boolean;
  /** The agent makes it itself, or does without. */
  readonly isOptional: boolean;
}

export interface PlaceLook {
  readonly path: string;
  readonly rule: Rule;
  readonly look: FileLook;
  readonly way: WayLook;
}

export type WayLook =
  | { readonly kind: 'safe' }
  | { readonly kind: 'unsafe'; readonly problem: string }
  | { readonly kind: 'hidden'; readonly reason: string };

type WayCheck = (directory: string) => Promise<string | undefined>;

const OTHERS = 0o007;
const OTHERS_WRITE = 0o022;

function rulesOf(settings: Settings): readonly (readonly [string, Rule])[] {
  const { configDir, stateDir, runtimeDir, workerDir } = settings;
  const read = { isWritten: false, forbidden: 0o002, isMade: false, isOptional: true };
  const made = { isWritten: true, isMade: true, isOptional: true };
  return [
    [configDir, { ...read, what: 'config-dir' }],
    [join(configDir, 'workers'), { ...read, what: 'the workers’ files' }],
    [workerDir, { ...read, what: 'worker-dir', isOptional: false }],
    [stateDir, { what: 'state-dir', isWritten: true, forbidden: OTHERS | 0o070, isMade: false, isOptional: true }],
    [runtimeDir, { ...made, what: 'runtime-dir', forbidden: OTHERS_WRITE }],
    [join(adminSocket(runtimeDir), '..'), { ...made, what: 'the operator’s directory', forbidden: OTHERS | 0o020 }],
    [join(runtimeDir, 'w'), { ...made, what: 'the workers’ sockets', forbidden: OTHERS_WRITE }],
  ];
}

export function lookAtPlaces(settings: Settings, user: Account, wayProblem: WayCheck): Promise<readonly PlaceLook[]> {
  return Promise.all(
    rulesOf(settings).map(async ([path, rule]) => {
      const look = await lookAtFile(path, user);
      return { path, rule, look, way: await wayTo(path, look, wayProblem) };
    }),
  );
}

async function wayTo(path: string, look: FileLook, wayProblem: WayCheck): Promise<WayLook> {
  if (look.kind !== 'there') return { kind: 'safe' };
  try {
    const problem = await wayProblem(path);
    return problem === undefined ? { kind: 'safe' } : { kind: 'unsafe', problem };
  } catch (error) {
    return { kind: 'hidden', reason: errnoOf(error) ?? errorText(error) };
  }
}

export function judgePlaces(
  looks: readonly PlaceLook[],
  user: Account,
  self: Account,
  isRunning: boolean,
): readonly Finding[] {
  return looks.flatMap((look) => judgePlace(look, user, self, isRunning));
}

function judgePlace(
  { path, rule, look, way }: PlaceLook,
  user: Account,
  self: Account,
  isRunning: boolean,
): readonly Finding[] {
  const check = checkOf('place', path);
  const asRoot = `run \`ygg doctor\` as root or as ${user.name}`;
  if (look.kind === 'hidden')
    return [check.skipped(`${rule.what}: ${self.name} may not look there (${look.reason})`, asRoot)];
  if (look.kind === 'missing') {
    if (rule.isMade && !isRunning) return [];
    if (rule.isMade || rule.isOptional) return [check.ok(`${rule.what}: not there, and not needed so far`)];
    return [
      check.warning(`${rule.what} is not there: there are no workers`, `mkdir -p ${path}, and put workers into it`),
    ];
  }
  const { stat } = look;
  if (!stat.isDirectory())
    return [check.failed(`${rule.what} is not a directory`, 'mend the setting, or move that file away')];
  const mode = modeText(stat);
  const findings: Finding[] = [];
  const needed = rule.isWritten ? look.mayRead && look.mayWrite : look.mayRead;
  if (!needed)
    findings.push(
      check.failed(
        `${rule.what}: ${user.name}, who the agent runs as, cannot ${rule.isWritten ? 'write' : 'read'} it (${mode})`,
        rule.isWritten ? `chown ${user.uid}:${user.gid} ${path}` : `chmod a+rx ${path}`,
      ),
    );
  const extra = stat.mode & rule.forbidden;
  if (way.kind === 'unsafe')
    findings.push(check.failed(`${rule.what}: others could change it: ${way.problem}`, 'do what it says'));
  else if (extra !== 0)
    findings.push(
      check.warning(`${rule.what}: open to more users than it needs (${mode})`, `chmod ${symbols(extra)} ${path}`),
    );
  if (way.kind === 'hidden')
    findings.push(check.skipped(`${rule.what}: ${self.name} may not see all directories above it`, asRoot));
  return findings.length > 0 ? findings : [check.ok(`${rule.what}: ${mode}`)];
}

/** `g-w,o-rwx`: what takes these bits away. */
function symbols(bits: number): string {
  return (['g', 'o'] as const)
    .map((who, n) => [who, (bits >> (n === 0 ? 3 : 0)) & 7] as const)
    .filter(([, three]) => three !== 0)
    .map(([who, three]) => `${who}-${['r', 'w', 'x'].filter((_, n) => (three & (4 >> n)) !== 0).join('')}`)
    .join(',');
}
