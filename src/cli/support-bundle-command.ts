/** `ygg support-bundle`: what somebody else needs to find out what is wrong here, in one file and without secrets. */
import { hostname } from 'node:os';
import type { Command } from 'commander';
import { asksDoctor, examined, INTERRUPTED, type DoctorFlags } from './doctor-command.js';
import { endWithReader, Output, size } from './output.js';

export function addSupportBundleCommand(program: Command): void {
  asksDoctor(program.command('support-bundle'))
    .description(
      'write what others need to help: doctor, status, settings, log, versions; without secrets and contents',
    )
    .option('--output <file>', 'where to (default: yggdrasil-support-HOST-TIME.tar.gz in this directory)')
    .action(async (flags: DoctorFlags & { readonly output?: string }) => {
      endWithReader();
      const scope = new AbortController();
      const onSignal = (): void => scope.abort(new Error('interrupted: nothing was written'));
      process.once('SIGINT', onSignal);
      process.once('SIGTERM', onSignal);
      await write(flags, scope.signal);
      // As in doctor: a question to the resolver would hold up the end.
      process.exit(0);
    });
}

async function write(flags: DoctorFlags & { readonly output?: string }, scope: AbortSignal): Promise<void> {
  const [{ Archive }, { bundleParts }, { redactorFor }] = await Promise.all([
    import('./doctor/archive.js'),
    import('./doctor/bundle-parts.js'),
    import('./doctor/secrets.js'),
  ]);
  const name = `yggdrasil-support-${hostname().replace(/[^A-Za-z0-9.-]/g, '_')}-${stamp(new Date())}`;
  const path = flags.output ?? `${name}.tar.gz`;
  try {
    // Before the work: whoever named a file that is there hears of it at once.
    await using archive = await Archive.create(path);
    const diagnosis = await examined(flags, scope);
    const parts = await bundleParts(diagnosis, await redactorFor(diagnosis.target, diagnosis.unit), scope);
    const bytes = await archive.write(name, parts, scope);
    tell(flags, { path, name, bytes, parts });
  } catch (error) {
    if (!scope.aborted) throw error;
    process.stderr.write('ygg: interrupted: nothing was written\n');
    process.exit(INTERRUPTED);
  }
}

interface Written {
  readonly path: string;
  readonly name: string;
  readonly bytes: number;
  readonly parts: readonly { readonly name: string; readonly what: string }[];
}

function tell({ json }: DoctorFlags, { path, name, bytes, parts }: Written): void {
  const output = new Output();
  if (json === true) {
    output.json({ file: path, bytes, contents: parts.map((part) => ({ name: part.name, what: part.what })) });
    return;
  }
  output.line(`${path}: ${size(bytes)}, readable by you only. In it, without secrets and contents of messages:`);
  output.table(
    ['FILE', 'WHAT'],
    parts.map((part) => [part.name, part.what]),
  );
  output.line(`Look before you send it: tar -xzOf ${path} ${name}/doctor.txt`);
}

/** `20261126-170000`, UTC. */
function stamp(now: Date): string {
  return now.toISOString().slice(0, 19).replace(/[-:]/g, '').replace('T', '-');
}
