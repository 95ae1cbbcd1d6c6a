/** The files that prove who the agent is: whether it can read them, who else can, and how long they hold. */
import { X509Certificate } from 'node:crypto';
import { dirname } from 'node:path';
import { checkCredentials, type CredentialsResult, type Settings } from '../../config/index.js';
import { certificateLook, type CertificateLook } from '../../connection/index.js';
import { lookAtFile, modeText, readerFor, type Account, type FileLook, type ReadFile } from './account.js';
import { checkOf, type Finding } from './finding.js';
import { certificateText, isSoon } from './judge-broker.js';
import { day } from './words.js';

export interface CredentialFile {
  readonly setting: string;
  readonly path: string;
  readonly isSecret: boolean;
  readonly look: FileLook;
  /** Whether the one who looks may read it. */
  readonly isReadable: boolean;
  /** Who else could put another in its place: a sentence of what to mend. */
  readonly way: string | undefined;
  readonly certificates: readonly CertificateLook[];
}

export interface CredentialsLook {
  readonly files: readonly CredentialFile[];
  /** Undefined when the one who looks may not read them all. */
  readonly checked: CredentialsResult | undefined;
}

type WayCheck = (directory: string) => Promise<string | undefined>;

export async function lookAtCredentials(
  settings: Settings,
  user: Account,
  self: Account,
  wayProblem: WayCheck,
): Promise<CredentialsLook> {
  const readFile = readerFor(user, self);
  const named: readonly (readonly [string, string | undefined, boolean])[] = [
    ['cert-file', settings.certFile, false],
    ['key-file', settings.keyFile, true],
    ...settings.caRoot.map((path) => ['ca-root', path, false] as const),
    ['password-file', settings.passwordFile, true],
    ['proxy-credentials-file', settings.proxyCredentialsFile, true],
  ];
  const files = await Promise.all(
    named.flatMap(([setting, path, isSecret]) =>
      path === undefined ? [] : [lookAtOne(setting, path, isSecret, { user, wayProblem, readFile })],
    ),
  );
  const isHidden = files.some(({ look, isReadable }) => !isReadable && look.kind !== 'missing');
  return { files, checked: isHidden ? undefined : await checkCredentials(settings, { readFile }) };
}

async function lookAtOne(
  setting: string,
  path: string,
  isSecret: boolean,
  {
    user,
    wayProblem,
    readFile,
  }: { readonly user: Account; readonly wayProblem: WayCheck; readonly readFile: ReadFile },
): Promise<CredentialFile> {
  const look = await lookAtFile(path, user);
  const bytes = await readFile(path).catch(() => undefined);
  return {
    ...{ setting, path, isSecret, look, isReadable: bytes !== undefined },
    way: await wayProblem(dirname(path)).catch(() => undefined),
    certificates: isSecret || bytes === undefined ? [] : certificatesIn(bytes.toString('latin1')),
  };
}

/** All certificates of a PEM file; what is none is told by whoever checks the file as a whole. */
function certificatesIn(pem: string): readonly CertificateLook[] {
  return (pem.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? []).flatMap((one) => {
    try {
      return [certificateLook(new X509Certificate(one))];
    } catch {
      return [];
    }
  });
}

export function judgeCredentials(
  { files, checked }: CredentialsLook,
  user: Account,
  self: Account,
  now: number,
): readonly Finding[] {
  const problems = checked?.kind === 'invalid' ? checked.problems : [];
  return [
    ...files.flatMap((file) => {
      const wrong = problems
        .filter(({ source }) => source === file.path)
        .map(({ text }) => checkOf('credentials.file', file.path).failed(text, todoOf(file)));
      return [...(file.look.kind === 'missing' ? [] : wrong), ...judgeFile(file, user, self, wrong.length > 0, now)];
    }),
    ...problems
      .filter(({ source }) => !files.some(({ path }) => path === source))
      .map(({ text }) => checkOf('credentials.file').failed(text, 'mend the setting')),
  ];
}

function todoOf({ setting }: CredentialFile): string {
  return setting === 'key-file'
    ? 'set `cert-file` and `key-file` to the pair that was issued together'
    : `put what \`${setting}\` asks for into the file`;
}

function judgeFile(
  file: CredentialFile,
  user: Account,
  self: Account,
  isWrong: boolean,
  now: number,
): readonly Finding[] {
  const { setting, path, look, isSecret, way } = file;
  const check = checkOf('credentials.file', path);
  if (look.kind === 'missing')
    return [check.failed(`\`${setting}\`: there is no such file`, 'put it there, or mend the setting')];
  if (look.kind === 'hidden')
    return [check.skipped(`\`${setting}\`: ${self.name} may not look there (${look.reason})`, asRoot(user))];
  const findings: Finding[] = [];
  const mode = modeText(look.stat);
  if (!look.mayRead)
    findings.push(
      check.failed(
        `\`${setting}\`: ${user.name}, who the agent runs as, may not read it or reach it (${mode})`,
        `chgrp ${user.gid} ${path} && chmod g+r ${path}, and let it pass through the directories above`,
      ),
    );
  if (isSecret && (look.stat.mode & 0o004) !== 0)
    findings.push(
      check.warning(`\`${setting}\`: every user of this machine can read it (${mode})`, `chmod o-rwx ${path}`),
    );
  if ((look.stat.mode & 0o002) !== 0)
    findings.push(check.failed(`\`${setting}\`: every user can change it (${mode})`, `chmod o-w ${path}`));
  if (look.stat.uid !== 0 && look.stat.uid !== user.uid)
    findings.push(
      check.warning(
        `\`${setting}\`: it belongs to user ${look.stat.uid}, who could change it (${mode})`,
        `chown root ${path}, if that user is not to decide it`,
      ),
    );
  if (way !== undefined)
    findings.push(
      check.warning(`\`${setting}\`: others could put another file in its place: ${way}`, 'mend that directory'),
    );
  if (!file.isReadable && findings.length === 0)
    findings.push(check.skipped(`\`${setting}\`: ${self.name} may not read it (${mode})`, asRoot(user)));
  const dates = file.certificates.flatMap((certificate) => judgeDates(file, certificate, now));
  if (findings.length > 0 || isWrong || dates.length > 0) return [...findings, ...dates];
  const [first] = file.certificates;
  return [check.ok(`\`${setting}\`: ${first === undefined ? mode : certificateText(first)}`)];
}

function judgeDates({ setting, path }: CredentialFile, certificate: CertificateLook, now: number): readonly Finding[] {
  const check = checkOf('credentials.dates', path);
  const { subject, validFrom, validTo } = certificate;
  const what = `\`${setting}\`: the certificate of ${subject}`;
  // Of several authorities one may be out of use: the broker's own chain tells.
  const bad = setting === 'ca-root' ? check.warning : check.failed;
  const renew =
    setting === 'ca-root'
      ? 'take it out, or replace it'
      : 'renew it, with its key; the agent takes new files while it runs';
  if (now > validTo) return [bad(`${what} expired on ${day(validTo)}`, renew)];
  if (now < validFrom)
    return [bad(`${what} is not valid before ${day(validFrom)}`, 'check this machine’s clock: `timedatectl`')];
  return isSoon(certificate, now) ? [check.warning(`${what} ends on ${day(validTo)}`, renew)] : [];
}

const asRoot = (user: Account): string => `run \`ygg doctor\` as root or as ${user.name}`;
