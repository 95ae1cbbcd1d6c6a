/** Versions that have to go together: of Node, of `ygg` and of the agent that runs; and whether native parts load. */
import { checkOf, type Finding } from './finding.js';

export interface VersionsLook {
  readonly ygg: string;
  readonly node: string;
  readonly hasKoffi: boolean;
  /** Of the running agent; undefined where none is known. */
  readonly agent: string | undefined;
  /** The Node of the running agent was replaced. */
  readonly isNodeGone: boolean;
}

export async function hasKoffi(): Promise<boolean> {
  try {
    await import('koffi');
    return true;
  } catch {
    // It is optional.
    return false;
  }
}

const OLDEST_NODE = [20, 19] as const;
/** Those with long support that are tested. */
const NEWEST_NODE = 24;

export function judgeVersions({ ygg, node, hasKoffi: hasIt, agent, isNodeGone }: VersionsLook): readonly Finding[] {
  const [major = 0, minor = 0] = node.split('.').map(Number);
  const own = checkOf('version.node');
  const findings: Finding[] = [];
  if (major < OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor < OLDEST_NODE[1]))
    findings.push(
      own.failed(`Node ${node} is too old`, `install ${OLDEST_NODE.join('.')} or later, and install the agent again`),
    );
  else if (major % 2 === 1 || major > NEWEST_NODE)
    findings.push(own.warning(`Node ${node} was not tested with this version`, 'use Node 20, 22 or 24'));
  else findings.push(own.ok(`Node ${node}`));
  const native = checkOf('version.koffi');
  findings.push(
    hasIt
      ? native.ok('koffi is there')
      : native.warning(
          'koffi is not there: systemd is not told when the agent is ready, and workers are known by their directory only',
          'install the optional package koffi, and install the unit again',
        ),
  );
  const running = checkOf('version.agent');
  if (agent === undefined)
    findings.push(running.skipped(`this is ygg ${ygg}; the version of the agent is known only while it runs`));
  else if (agent !== ygg)
    findings.push(
      running.warning(
        `the agent runs version ${agent}, and this is ygg ${ygg}`,
        '`systemctl restart yggd`: what is on its way goes on',
      ),
    );
  else findings.push(running.ok(`the agent and ygg are ${ygg}`));
  if (isNodeGone)
    findings.push(
      checkOf('version.restart').warning(
        'the agent runs with a Node that was replaced since it was started',
        '`systemctl restart yggd`: workers and security fixes get the new one',
      ),
    );
  return findings;
}
