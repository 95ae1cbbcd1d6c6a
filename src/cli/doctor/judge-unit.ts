/** The service unit: installed, enabled, running, and as strong as it ships. */
import { checkOf, type Finding } from './finding.js';
import { differences, SHIPPED, valueOf, WALLS } from './unit-file.js';
import type { UnitLook } from './unit-look.js';

/** `isRunning`: whether an agent answers, however it was started. */
export function judgeUnit(look: UnitLook, isRunning: boolean): readonly Finding[] {
  const installed = checkOf('service.unit');
  if (look.kind === 'missing') {
    const seen = 'there is no unit yggd.service';
    if (!look.isSystemd) return [installed.skipped(`${seen}, and systemd does not run here`)];
    return [
      installed.warning(
        `${seen}: nothing starts the agent at boot`,
        'install it: `npm run install-system`, or the package of your distribution',
      ),
    ];
  }
  if (look.kind === 'unreadable')
    return [installed.skipped(`${look.path} cannot be read (${look.reason})`, 'run as root')];
  const [unit, ...dropIns] = look.files;
  const names = dropIns.map(({ path }) => path).join(', ');
  const where = `${unit?.path ?? ''}${names === '' ? '' : `, with ${names}`}`;
  return [installed.ok(where), ...judgeState(look, isRunning), ...judgeSettings(look)];
}

type Found = Extract<UnitLook, { kind: 'found' }>;

function judgeState({ state }: Found, isRunning: boolean): readonly Finding[] {
  const running = checkOf('service.state');
  if (state === undefined)
    return [running.skipped('systemd does not run here, or does not answer: whether the unit is started is not known')];
  const { active, sub, enabled, result, restarts, needsReload } = state;
  const findings: Finding[] = [];
  if (active === 'active') findings.push(running.ok(`active (${sub})`));
  else if (active === 'failed')
    findings.push(
      running.failed(
        `it has failed (${result})`,
        'read why: `journalctl -u yggd -n 50`; then `systemctl restart yggd`',
      ),
    );
  else if (active === 'activating' && sub === 'auto-restart')
    findings.push(running.failed('it ends again and again', 'read why: `journalctl -u yggd -n 50`'));
  else if (isRunning) findings.push(running.ok(`${active}; the agent that answers was started by hand`));
  else findings.push(running.failed(`it is ${active || 'not started'}`, 'start it: `systemctl start yggd`'));
  if (restarts > 0)
    findings.push(
      checkOf('service.restarts').warning(
        `systemd has started it again ${restarts} times since it was started by hand`,
        'read why it ended: `journalctl -u yggd -p warning`',
      ),
    );
  const boot = checkOf('service.enabled');
  const isEnabled = ['enabled', 'enabled-runtime', 'alias', 'static', 'linked', 'generated'].includes(enabled);
  findings.push(
    isEnabled
      ? boot.ok(enabled)
      : boot.warning(`it is ${enabled || 'not enabled'}: it does not start at boot`, '`systemctl enable yggd`'),
  );
  if (needsReload)
    findings.push(
      checkOf('service.reload').warning('the unit was changed since systemd read it', '`systemctl daemon-reload`'),
    );
  return findings;
}

function judgeSettings({ settings }: Found): readonly Finding[] {
  const same = checkOf('service.settings');
  const walls = checkOf('service.walls');
  const other = differences(settings, SHIPPED).filter(({ key }) => key !== 'UMask' || !isRoot(settings));
  const findings: Finding[] = [
    other.length === 0
      ? same.ok('as it ships, where that matters')
      : same.warning(
          `differs from what ships: ${other.map(({ key, found, shipped }) => `${key}=${found} (ships ${shipped})`).join(', ')}`,
          'see that it is meant; `systemctl revert yggd` takes drop-ins below /etc away',
        ),
  ];
  const missing = differences(settings, WALLS).map(({ key }) => key);
  if (missing.length === 0) findings.push(walls.ok('all walls of the shipped unit stand'));
  else if (isRoot(settings))
    findings.push(
      walls.warning(
        'the daemon is root, and the walls are down: whoever may publish to its topics can do what its workers can do',
        'set the broker’s rules first, and a `worker-user`; without workers that manage the machine, take the drop-in away',
      ),
    );
  else
    findings.push(
      walls.warning(
        `weaker than what ships: ${missing.join(', ')}`,
        'see that each is meant; `systemctl revert yggd` takes drop-ins below /etc away',
      ),
    );
  if (valueOf(settings, 'Type') !== 'notify')
    findings.push(
      checkOf('service.watchdog').warning(
        `Type=${valueOf(settings, 'Type') ?? 'simple'}: systemd is not told when the agent is ready, and no watchdog ends one that hangs`,
        'install the optional package koffi, and install the unit again',
      ),
    );
  return findings;
}

function isRoot(settings: Found['settings']): boolean {
  return ['root', '0'].includes(valueOf(settings, 'User') ?? 'root');
}
