/**
 * The files that prove who we are: certificate, key, authorities, passwords. Read together and checked before they are
 * used, so that a wrong pair is told by name instead of failing in a handshake. Called again when a file changes.
 */
import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { isDeepStrictEqual } from 'node:util';
import { errorText } from '../errors.js';
import type { Settings } from './load.js';
import type { Problem } from './problem.js';
import { Secret } from './secret.js';
import { unreadable } from './toml-file.js';

export interface Credentials {
  /** PEM, as the files hold it. */
  readonly cert: Buffer | undefined;
  readonly key: Secret | undefined;
  readonly ca: readonly Buffer[];
  readonly password: Secret | undefined;
  /** `user:password`. */
  readonly proxyCredentials: Secret | undefined;
  /** The CN of the certificate. */
  readonly commonName: string | undefined;
}

export type CredentialsResult =
  | { readonly kind: 'ok'; readonly credentials: Credentials; readonly warnings: readonly Problem[] }
  | { readonly kind: 'invalid'; readonly problems: readonly Problem[] };

export type CredentialSettings = Pick<
  Settings,
  'certFile' | 'keyFile' | 'caRoot' | 'passwordFile' | 'proxyCredentialsFile' | 'addressPassword'
>;

interface Deps {
  readonly readFile?: (path: string) => Promise<Buffer>;
  readonly mode?: (path: string) => Promise<number>;
  /** Wall time, milliseconds since the epoch. */
  readonly now?: number;
}

/** Reads all credential files that the settings name. Tells all problems; never throws, never tells a secret. */
export async function checkCredentials(settings: CredentialSettings, deps: Deps = {}): Promise<CredentialsResult> {
  const reader = new CredentialReader(deps);
  const { certFile, keyFile } = settings;
  const cert = certFile === undefined ? undefined : await reader.read(certFile, 'cert-file');
  const key = keyFile === undefined ? undefined : await reader.readSecret(keyFile, 'key-file');
  const certificate = cert && certFile !== undefined ? reader.certificate(cert, certFile, 'cert-file') : undefined;
  const privateKey = key && keyFile !== undefined ? reader.privateKey(key, keyFile) : undefined;
  if (certificate && privateKey && !certificate.checkPrivateKey(privateKey)) {
    reader.problem(
      'key-file',
      keyFile,
      `this key does not belong to the certificate ${certFile}: set the pair that was issued together`,
    );
  }
  const ca: Buffer[] = [];
  for (const file of settings.caRoot) {
    const bytes = await reader.read(file, 'ca-root');
    if (bytes && reader.certificate(bytes, file, 'ca-root')) ca.push(bytes);
  }
  const { passwordFile, proxyCredentialsFile } = settings;
  const password = passwordFile === undefined ? undefined : await reader.line(passwordFile, 'password-file');
  const proxy =
    proxyCredentialsFile === undefined ? undefined : await reader.line(proxyCredentialsFile, 'proxy-credentials-file');
  if (proxy !== undefined && !proxy.includes(':')) {
    reader.problem('proxy-credentials-file', proxyCredentialsFile, 'it must hold one line of the form user:password');
  }
  const { problems, warnings } = reader;
  if (problems.length > 0) return { kind: 'invalid', problems };
  const credentials: Credentials = {
    cert,
    key: key && new Secret(key.toString('utf8')),
    ca,
    password: password === undefined ? settings.addressPassword : new Secret(password),
    proxyCredentials: proxy === undefined ? undefined : new Secret(proxy),
    commonName: certificate && commonNameOf(certificate),
  };
  return { kind: 'ok', credentials, warnings };
}

/** Whether two sets of credentials are the same, byte for byte. */
export function isSameCredentials(one: Credentials, other: Credentials): boolean {
  const parts = ({ cert, key, ca, password, proxyCredentials }: Credentials): readonly unknown[] => [
    cert?.toString('base64'),
    key?.reveal(),
    ca.map((each) => each.toString('base64')),
    password?.reveal(),
    proxyCredentials?.reveal(),
  ];
  return isDeepStrictEqual(parts(one), parts(other));
}

/** The CN of a certificate's subject, or undefined when it has none. */
function commonNameOf(certificate: X509Certificate): string | undefined {
  return /^CN=(.+)$/m.exec(certificate.subject)?.[1];
}

class CredentialReader {
  readonly problems: Problem[] = [];
  readonly warnings: Problem[] = [];

  constructor(private readonly deps: Deps) {}

  problem(setting: string, source: string | undefined, reason: string): void {
    this.problems.push(finding(setting, source, reason));
  }

  async read(path: string, setting: string): Promise<Buffer | undefined> {
    try {
      return await (this.deps.readFile ?? ((file: string) => readFile(file)))(path);
    } catch (error) {
      this.problems.push({
        ...unreadable(path, error),
        code: 'config.credentials',
        text: `\`${setting}\`: ${unreadable(path, error).text}`,
      });
      return undefined;
    }
  }

  /** As `read`, and warns when everybody may read the file. */
  async readSecret(path: string, setting: string): Promise<Buffer | undefined> {
    const bytes = await this.read(path, setting);
    if (bytes === undefined) return undefined;
    const mode = await (this.deps.mode ?? (async (file: string) => (await stat(file)).mode))(path).catch(() => 0);
    if ((mode & 0o004) !== 0)
      this.warnings.push(finding(setting, path, `every user of this machine can read it: chmod o-rwx ${path}`));
    return bytes;
  }

  /** The one line of a password file. */
  async line(path: string, setting: string): Promise<string | undefined> {
    const text = (await this.readSecret(path, setting))?.toString('utf8').replace(/\r?\n$/, '');
    if (text === '') this.problem(setting, path, 'the file is empty: it must hold the secret in one line');
    else if (text !== undefined && /[\r\n\0]/.test(text))
      this.problem(setting, path, 'the file must hold one line only');
    else return text;
    return undefined;
  }

  certificate(pem: Buffer, path: string, setting: string): X509Certificate | undefined {
    try {
      const certificate = new X509Certificate(pem);
      const now = this.deps.now ?? Date.now();
      // No problem: it may be replaced while we run, and the clock of a machine that just booted may be wrong.
      if (now > Date.parse(certificate.validTo))
        this.warnings.push(finding(setting, path, `the certificate expired on ${certificate.validTo}: renew it`));
      if (now < Date.parse(certificate.validFrom)) {
        this.warnings.push(
          finding(setting, path, `the certificate is not valid before ${certificate.validFrom}: check the clock`),
        );
      }
      return certificate;
    } catch (error) {
      this.problem(setting, path, `it is not a certificate in PEM form (${opensslReason(error)})`);
      return undefined;
    }
  }

  privateKey(pem: Buffer, path: string): KeyObject | undefined {
    try {
      return createPrivateKey(pem);
    } catch (error) {
      const isEncrypted = pem.includes('ENCRYPTED');
      const reason = isEncrypted
        ? 'the key is encrypted, and there is nobody to ask for its passphrase: store it without one, readable by the daemon’s user only'
        : `it is not a private key in PEM form (${opensslReason(error)})`;
      this.problem('key-file', path, reason);
      return undefined;
    }
  }
}

function finding(setting: string, source: string | undefined, reason: string): Problem {
  return { code: 'config.credentials', text: `\`${setting}\`: ${reason}`, ...(source === undefined ? {} : { source }) };
}

/** OpenSSL's texts are `error:1E08010C:DECODER routines::unsupported`: the last part says it. */
function opensslReason(error: unknown): string {
  return errorText(error).split(':').at(-1)?.trim() ?? '';
}
