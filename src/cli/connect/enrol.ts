/**
 * `ygg connect` from its flags to a machine that is enrolled: registered with the service, or in possession of a
 * certificate, with the configuration to match. All input is checked before the first thing is changed.
 */
import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Changes } from '../../config/amend.js';
import { checkCredentials, problemsError } from '../../config/index.js';
import { AgentError } from '../../errors.js';
import { printable } from '../../message/index.js';
import { judge, type Pem } from './certificate.js';
import type { Configuration } from './configuration.js';
import { isSameFile, makeDirectory, place, readIfThere, readNamed } from './files.js';
import { readRecord, writeRecord, type EnrolmentRecord } from './record.js';
import type { Enrolment, Registration } from './registration.js';
import type { Steps } from './steps.js';
import { whileTelling } from './waiting.js';
import type { ConnectFlags, Way } from './way.js';

export const KEY_NAME = 'agent.key';
const CERT_NAME = 'agent.crt';
const CA_NAME = 'ca.crt';
/** Readable by the daemon's group, written by root alone. */
const KEY_MODE = 0o640;
const CERT_MODE = 0o644;

export interface EnrolContext {
  readonly flags: ConnectFlags;
  readonly configuration: Configuration;
  /** The daemon's group. */
  readonly group: () => Promise<number>;
  readonly steps: Steps;
}

/** What the agent has to be told: whether anything it reads was changed. */
export interface Enrolled {
  readonly isChanged: boolean;
  readonly clientId?: string;
  readonly runtimeDir: string;
  /** What may keep the agent from starting, told when it does not. */
  readonly hint?: string;
}

/** By a certificate, copied beside the configuration. */
export async function enrolByCertificate(
  way: Extract<Way, { kind: 'certificate' }>,
  { flags, configuration, group, steps }: EnrolContext,
): Promise<Enrolled> {
  const { directory } = configuration;
  const record = await readRecord(directory);
  const cert = await readNamed(way.cert);
  const key = way.key === undefined ? await ownKey(directory) : await readNamed(way.key);
  const ca = way.ca === undefined ? undefined : await readNamed(way.ca);
  const configured = configuration.value('client-id');
  const clientId = typeof configured === 'string' ? configured : undefined;
  const verdict = judge({ cert, key, ca, clientId, now: Date.now() });
  if (verdict.kind === 'bad') throw new AgentError('config.credentials', verdict.problems.join('\n'));
  const copies = [
    { pem: cert, path: join(directory, CERT_NAME), mode: CERT_MODE, step: 'certificate' },
    { pem: key, path: join(directory, KEY_NAME), mode: KEY_MODE, step: 'key' },
    ...(ca === undefined ? [] : [{ pem: ca, path: join(directory, CA_NAME), mode: CERT_MODE, step: 'authority' }]),
  ];
  const changes: Changes = {
    ...brokerChange(flags),
    'cert-file': join(directory, CERT_NAME),
    'key-file': join(directory, KEY_NAME),
    ...(ca === undefined ? {} : { 'ca-root': [join(directory, CA_NAME)] }),
  };
  const amended = await configuration.amended(changes);
  const gid = await group();
  for (const { pem, path } of copies) await refuseForeign(path, pem, record, flags.force === true);

  for (const warning of verdict.warnings) steps.tell('certificate', warning, 'warning');
  await makeDirectory(directory);
  const made = record.files.includes(key.path) && way.key === undefined ? [key.path] : [];
  const copied: string[] = [];
  let isChanged = amended.isChanged;
  // The record first: what is copied and not recorded would stay for ever.
  for (const { pem, path } of copies) if (!(await isSameFile(pem.path, path))) copied.push(path);
  await writeRecord(directory, {
    ...record,
    files: merged(record.files, [...made, ...copied]),
    settings: { ...record.settings, ...recorded(changes) },
    clientId: verdict.clientId,
  });
  for (const { pem, path, mode, step } of copies) {
    const old = await readIfThere(path);
    const isSame = old?.bytes.equals(pem.bytes) === true;
    await place({ path, content: pem.bytes, mode, gid: mode === KEY_MODE ? gid : 0 });
    isChanged ||= !isSame;
    const detail =
      step === 'certificate'
        ? `of ${printable(verdict.clientId)}, valid until ${new Date(verdict.validTo).toISOString()}: `
        : '';
    steps.tell(step, `${detail}${path}`, isSame ? 'unchanged' : 'done');
  }
  await configuration.write(amended);
  steps.tell(
    'settings',
    `${configuration.file}${amended.isChanged ? ': broker and certificate are set' : ''}`,
    amended.isChanged ? 'done' : 'unchanged',
  );
  return { isChanged, clientId: verdict.clientId, runtimeDir: amended.settings.runtimeDir };
}

/** By the registration service, which keeps its own certificate. */
export async function enrolByRegistration(
  isForced: boolean,
  /** Asked for when all else is known to be right: somebody may have to type a password. */
  enrolment: () => Promise<Enrolment>,
  registration: Registration,
  { flags, configuration, group, steps }: EnrolContext,
): Promise<Enrolled> {
  const { directory } = configuration;
  const record = await readRecord(directory);
  const before = await registration.consumer();
  const files = await registration.consumerFiles();
  const isOwn = configuration.value('cert-file') === undefined;
  const changes: Changes = {
    ...brokerChange(flags),
    ...(isOwn ? { 'cert-file': files.cert, 'key-file': files.key } : {}),
  };
  const amended = await configuration.amended(changes);
  let consumer = before;
  if (before !== undefined && !isForced)
    steps.tell(
      'registration',
      `this machine is registered already, as ${printable(before)} (--force registers it anew)`,
      'unchanged',
    );
  else {
    const wanted = await enrolment();
    consumer = await whileTelling('registering', () => registration.register(wanted));
    steps.tell('registration', `registered as ${printable(consumer)}`);
  }
  await makeDirectory(directory);
  // One that somebody else registered is not ours to take back.
  const isOurs = before !== consumer || record.consumer === consumer;
  await writeRecord(directory, {
    ...record,
    settings: { ...record.settings, ...recorded(changes) },
    ...(isOurs && consumer !== undefined ? { consumer } : {}),
  });
  await configuration.write(amended);
  if (amended.isChanged) steps.tell('settings', `${configuration.file}: ${Object.keys(changes).join(', ')}`);
  const isRead = isOwn || configuration.value('key-file') === files.key;
  const hint = isRead ? await hintOfKey(files.key, group) : undefined;
  return {
    isChanged: amended.isChanged || consumer !== before,
    runtimeDir: amended.settings.runtimeDir,
    ...(consumer === undefined ? {} : { clientId: consumer }),
    ...(hint === undefined ? {} : { hint }),
  };
}

/** Nothing but a broker, where one is named, and a look at what is there. */
export async function enrolByHand({ flags, configuration, steps }: EnrolContext): Promise<Enrolled> {
  const changes = brokerChange(flags);
  const amended = await configuration.amended(changes);
  const checked = await checkCredentials(amended.settings);
  if (checked.kind === 'invalid') throw problemsError(checked.problems);
  if (amended.isChanged) {
    await makeDirectory(configuration.directory);
    const record = await readRecord(configuration.directory);
    await writeRecord(configuration.directory, { ...record, settings: { ...record.settings, ...recorded(changes) } });
    await configuration.write(amended);
    steps.tell('settings', `${configuration.file}: broker`);
  }
  return { isChanged: amended.isChanged, runtimeDir: amended.settings.runtimeDir };
}

function brokerChange({ broker }: ConnectFlags): Changes {
  return broker === undefined ? {} : { broker };
}

/** Broker addresses may hold a password, as the original allows: that is not for a record that all may read. */
function recorded({ broker, ...rest }: Changes): EnrolmentRecord['settings'] {
  const isPlain = broker !== undefined && ![broker].flat().some((url) => url.includes('@'));
  return Object.fromEntries(
    Object.entries({ ...rest, ...(isPlain ? { broker } : {}) }).flatMap(([name, value]) =>
      value === undefined ? [] : [[name, value]],
    ),
  );
}

async function ownKey(directory: string): Promise<Pem> {
  const key = await readIfThere(join(directory, KEY_NAME));
  if (key !== undefined) return key;
  throw new AgentError(
    'connect.usage',
    `there is no key in ${directory}: give the certificate's with --key, or make one with --csr and have that signed`,
  );
}

/** A file that an operator put there is not overwritten without being asked. */
async function refuseForeign(path: string, pem: Pem, record: EnrolmentRecord, isForced: boolean): Promise<void> {
  const old = await readIfThere(path);
  if (old === undefined || isForced || record.files.includes(path) || old.bytes.equals(pem.bytes)) return;
  throw new AgentError(
    'connect.file',
    `${path} is there already, and ygg connect did not put it there: move it away, or say --force`,
  );
}

async function hintOfKey(key: string, group: () => Promise<number>): Promise<string | undefined> {
  const found = await stat(key).catch(() => undefined);
  if (found === undefined) return `the registration left no key at ${key}`;
  const isReadable = (found.mode & 0o004) !== 0 || ((found.mode & 0o040) !== 0 && found.gid === (await group()));
  if (isReadable) return undefined;
  return `the daemon's group may not read ${key}: run the daemon as root (root-workers.conf, docs/operating.md), or let the group read it`;
}

export function merged(one: readonly string[], other: readonly string[]): readonly string[] {
  return [...new Set([...one, ...other.map((path) => resolve(path))])];
}
