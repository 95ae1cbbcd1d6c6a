/**
 * What a broker shows in its TLS handshake, for a person to judge: its certificates, and each thing that is wrong with
 * them. Unlike a real connection it goes through with a certificate that cannot be trusted; so nothing is ever sent on it.
 */
import type { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { connect, type TLSSocket } from 'node:tls';
import { errnoOf, errorText } from '../errors.js';
import type { Millis } from '../time.js';
import { openFailure } from './attempt.js';
import type { BrokerAddress } from './broker-address.js';
import { lateFailure, type Failure } from './failure.js';
import { contextOf, type TlsMaterial } from './tls-material.js';
import { openSocket, ready } from './transport.js';

export interface CertificateLook {
  /** On one line, as OpenSSL writes it: `CN=broker.example, O=Example`. */
  readonly subject: string;
  readonly issuer: string;
  /** Wall time. */
  readonly validFrom: Millis;
  readonly validTo: Millis;
  /** The names it stands for; empty for one that names none. */
  readonly names: string;
}

export type TlsLook =
  | {
      readonly kind: 'seen';
      readonly protocol: string;
      /** The broker's own first, then those of the authorities, as far as they are known. */
      readonly chain: readonly CertificateLook[];
      /** The code of OpenSSL's verdict on the chain, such as CERT_HAS_EXPIRED; undefined when it is trusted. */
      readonly distrust: string | undefined;
      /** It stands for other names than the one in `broker`. */
      readonly isOtherName: boolean;
      readonly took: Millis;
    }
  | { readonly kind: 'failed'; readonly failure: Failure };

export interface TlsLookOptions {
  readonly broker: BrokerAddress;
  readonly proxy: string | undefined;
  readonly material: TlsMaterial;
}

const LONGEST_CHAIN = 10;

/** Shakes hands once and says goodbye. Never rejects; with the end of the scope it fails. */
export async function lookAtTls({ broker, proxy, material }: TlsLookOptions, scope: AbortSignal): Promise<TlsLook> {
  try {
    const socket = await openSocket(broker, proxy, scope);
    const began = performance.now();
    const secure = connect({
      socket,
      host: broker.host,
      ...(isIP(broker.host) === 0 && { servername: broker.host }),
      secureContext: contextOf(material),
      rejectUnauthorized: false,
    });
    await ready(secure, 'secureConnect', scope);
    const took = performance.now() - began;
    try {
      return { kind: 'seen', ...seenOf(secure, broker), took };
    } finally {
      // A broker that wants a certificate says so only now: whoever connects in earnest is told.
      secure.on('error', () => undefined);
      secure.destroy();
    }
  } catch (error) {
    return { kind: 'failed', failure: scope.aborted ? lateFailure(broker, error) : openFailure(error, broker) };
  }
}

function seenOf(secure: TLSSocket, { host }: BrokerAddress): Omit<Extract<TlsLook, { kind: 'seen' }>, 'kind' | 'took'> {
  const certificate = secure.getPeerX509Certificate();
  const chain: X509Certificate[] = [];
  for (let next = certificate; next !== undefined && chain.length < LONGEST_CHAIN; next = next.issuerCertificate)
    chain.push(next);
  const isOtherName =
    certificate !== undefined &&
    (isIP(host) === 0 ? certificate.checkHost(host) === undefined : certificate.checkIP(host) === undefined);
  return {
    protocol: secure.getProtocol() ?? '',
    chain: chain.map(certificateLook),
    distrust: distrustOf(secure),
    isOtherName,
  };
}

/** The verdict on the chain. Node puts that on the name in the same place, and hides the other one with it. */
function distrustOf(secure: TLSSocket): string | undefined {
  // Typed as an Error, but a text for each verdict of OpenSSL's.
  const verdict: unknown = secure.authorizationError;
  if (verdict === undefined || verdict === null) return undefined;
  const code = typeof verdict === 'string' ? verdict : (errnoOf(verdict) ?? errorText(verdict));
  return code === 'ERR_TLS_CERT_ALTNAME_INVALID' ? undefined : code;
}

/** What is of interest in a certificate. */
export function certificateLook(certificate: X509Certificate): CertificateLook {
  return {
    subject: oneLine(certificate.subject),
    issuer: oneLine(certificate.issuer),
    validFrom: Date.parse(certificate.validFrom),
    validTo: Date.parse(certificate.validTo),
    names: certificate.subjectAltName ?? '',
  };
}

/** A name of X.509 may be missing altogether; Node's types do not say so. */
function oneLine(name: string | undefined): string {
  return (name ?? '').split('\n').join(', ');
}
