/**
 * Whether a certificate, its key and its authority can serve as the agent's credentials: belong together, are in force,
 * strong enough, meant for a client, and name it. All that is wrong is told at once.
 */
import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto';
import { NAME_RULE, parseClientId, quoted } from '../../message/index.js';

/** A file as it was read. */
export interface Pem {
  readonly path: string;
  readonly bytes: Buffer;
}

export interface Material {
  readonly cert: Pem;
  readonly key: Pem;
  readonly ca: Pem | undefined;
  /** The setting `client-id`, which takes the place of the certificate's CN. */
  readonly clientId: string | undefined;
  /** Wall time, milliseconds since the epoch. */
  readonly now: number;
}

export type Verdict =
  | {
      readonly kind: 'good';
      /** The CN, or the setting where there is one. */
      readonly clientId: string;
      readonly validTo: string;
      readonly warnings: readonly string[];
    }
  | { readonly kind: 'bad'; readonly problems: readonly string[] };

const SHORTEST_RSA = 2048;
const CURVES = ['prime256v1', 'secp384r1', 'secp521r1'];
/** id-kp-clientAuth, RFC 5280, 4.2.1.12. */
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
const EXPIRES_SOON_MS = 14 * 24 * 3_600_000;

export function judge({ cert, key, ca, clientId, now }: Material): Verdict {
  const problems: string[] = [];
  const warnings: string[] = [];
  const certificate = certificateOf(cert, problems);
  const privateKey = keyOf(key, problems);
  if (certificate !== undefined && privateKey !== undefined && !certificate.checkPrivateKey(privateKey))
    problems.push(`${key.path} is not the key of the certificate ${cert.path}: give the pair that was issued together`);
  for (const each of ca === undefined ? [] : authoritiesOf(ca, problems)) {
    // A certificate that signs itself is trusted by being named, also one without extensions.
    if (!each.ca && each.subject !== each.issuer)
      problems.push(`${ca?.path ?? ''} holds a certificate that is no authority: ${quoted(nameOf(each))}`);
    else if (now > Date.parse(each.validTo))
      problems.push(`the authority ${quoted(nameOf(each))} in ${ca?.path ?? ''} expired on ${each.validTo}`);
  }
  const commonName = certificate && /^CN=(.+)$/m.exec(certificate.subject)?.[1];
  if (certificate !== undefined) {
    problems.push(...timeProblems(certificate, cert.path, now), ...keyProblems(certificate, cert.path));
    const purposes: unknown = certificate.keyUsage;
    if (Array.isArray(purposes) && purposes.length > 0 && !purposes.includes(CLIENT_AUTH))
      problems.push(`${cert.path} is not meant for a client: its extended key usage lacks clientAuth`);
    if (clientId === undefined && (commonName === undefined || parseClientId(commonName) === undefined))
      problems.push(
        `the CN of ${cert.path} is ${commonName === undefined ? 'missing' : quoted(commonName)}, which cannot be a client id (${NAME_RULE}): set \`client-id\``,
      );
    if (clientId !== undefined && commonName !== clientId)
      warnings.push(
        `the setting client-id is ${quoted(clientId)}, the CN of the certificate ${quoted(commonName ?? '')}: many brokers take only the CN`,
      );
    if (Date.parse(certificate.validTo) - now < EXPIRES_SOON_MS)
      warnings.push(`${cert.path} expires on ${certificate.validTo}`);
  }
  if (problems.length > 0 || certificate === undefined) return { kind: 'bad', problems };
  return { kind: 'good', clientId: clientId ?? commonName ?? '', validTo: certificate.validTo, warnings };
}

function certificateOf({ path, bytes }: Pem, problems: string[]): X509Certificate | undefined {
  try {
    return new X509Certificate(bytes);
  } catch {
    problems.push(`${path} is no certificate in PEM form`);
    return undefined;
  }
}

function keyOf({ path, bytes }: Pem, problems: string[]): KeyObject | undefined {
  try {
    return createPrivateKey(bytes);
  } catch {
    problems.push(
      bytes.includes('ENCRYPTED')
        ? `the key ${path} is encrypted, and the agent has nobody to ask for its passphrase: store it without one (openssl pkey -in ${path} -out NEW)`
        : `${path} is no private key in PEM form`,
    );
    return undefined;
  }
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g;

/** All certificates of a bundle. */
function authoritiesOf({ path, bytes }: Pem, problems: string[]): readonly X509Certificate[] {
  const blocks = bytes.toString('latin1').match(CERTIFICATE) ?? [];
  if (blocks.length === 0) problems.push(`${path} holds no certificate in PEM form`);
  return blocks.flatMap((block) => {
    const each = certificateOf({ path, bytes: Buffer.from(block, 'latin1') }, problems);
    return each === undefined ? [] : [each];
  });
}

function timeProblems({ validFrom, validTo }: X509Certificate, path: string, now: number): readonly string[] {
  if (now > Date.parse(validTo)) return [`${path} expired on ${validTo}: have a new one issued`];
  if (now < Date.parse(validFrom))
    return [
      `${path} is not valid before ${validFrom}: check the clock of this machine (${new Date(now).toISOString()})`,
    ];
  return [];
}

function keyProblems({ publicKey }: X509Certificate, path: string): readonly string[] {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details = {} } = publicKey;
  if (type === 'rsa' || type === 'rsa-pss') {
    const bits = details.modulusLength ?? 0;
    return bits >= SHORTEST_RSA ? [] : [`the RSA key of ${path} has ${bits} bits: at least ${SHORTEST_RSA} are needed`];
  }
  if (type === 'ec') {
    const curve = details.namedCurve ?? '';
    return CURVES.includes(curve)
      ? []
      : [`the key of ${path} is on the curve ${curve}: TLS takes ${CURVES.join(', ')}`];
  }
  return type === 'ed25519'
    ? []
    : [`the key of ${path} is of the type ${type ?? 'unknown'}: TLS takes EC, RSA and Ed25519`];
}

function nameOf(certificate: X509Certificate): string {
  return certificate.subject.replaceAll('\n', ', ');
}
