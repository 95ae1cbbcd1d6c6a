/**
 * Why a connection could not be made, or ended: a code to act on and one sentence for a person that says what was
 * attempted, on what, and what to do. No secret ever stands in it.
 */
import { AgentError, errnoOf, errorText } from '../errors.js';
import type { BrokerAddress } from './broker-address.js';
import type { VersionEvidence } from './version-memory.js';

export type DownCode =
  /** The broker's name has no address. */
  | 'unresolved'
  /** Nobody listens there, or there is no way to it. */
  | 'unreachable'
  /** The proxy refused, or cannot be reached. */
  | 'proxy'
  /** The TLS handshake failed. */
  | 'tls'
  /** No answer in time while connecting. */
  | 'timeout'
  /** The broker said no: CONNACK, SUBACK or the websocket's handshake. */
  | 'refused'
  /** The broker or the network ended the connection. */
  | 'closed'
  /** The broker ended it and said why (MQTT 5). */
  | 'server'
  /** The same, and nothing that we sent was the cause: it shuts down, or another client took our id. */
  | 'dismissed'
  /** The broker was silent for one and a half keepalive intervals. */
  | 'keepalive'
  /** What came was not MQTT. */
  | 'protocol'
  /** Our own credentials, TLS material or will could not be had. */
  | 'credentials'
  /** Ended by us: `disconnect()`, `reconnect()`. */
  | 'requested'
  /** Ended by us, to connect again at once: `renew()`, or a better broker of the list. */
  | 'moving'
  /** Ended by us: `stop()`. */
  | 'stopped';

export interface Failure {
  readonly code: DownCode;
  /** A sentence for a person: what happened, and what to do. */
  readonly reason: string;
  /** The same as an error (`connection.refused`, `.failed` or `.closed`) with its cause. */
  readonly error: AgentError;
  /** What it says about the protocol version. */
  readonly evidence: VersionEvidence;
}

/** A failure of this code. `connection.refused` stands for `refused`, `connection.closed` for ends of a connection. */
export function failure(
  code: DownCode,
  broker: BrokerAddress,
  reason: string,
  cause?: unknown,
  evidence: VersionEvidence = 'none',
): Failure {
  const details = { broker: broker.text, reason: code };
  const error = new AgentError(errorCodeOf(code), reason, details, { cause });
  return { code, reason, error, evidence };
}

function errorCodeOf(code: DownCode): 'connection.refused' | 'connection.failed' | 'connection.closed' {
  switch (code) {
    case 'refused':
      return 'connection.refused';
    case 'closed':
    case 'server':
    case 'dismissed':
    case 'keepalive':
    case 'requested':
    case 'moving':
    case 'stopped':
      return 'connection.closed';
    default:
      return 'connection.failed';
  }
}

/** What each TLS error of Node means to the person who set the certificates. */
const TLS_TEXTS = new Map<string, string>([
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'unknown-ca'],
  ['UNABLE_TO_GET_ISSUER_CERT', 'unknown-ca'],
  ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'unknown-ca'],
  ['SELF_SIGNED_CERT_IN_CHAIN', 'unknown-ca'],
  ['DEPTH_ZERO_SELF_SIGNED_CERT', 'unknown-ca'],
  ['CERT_UNTRUSTED', 'unknown-ca'],
  ['CERT_SIGNATURE_FAILURE', 'unknown-ca'],
  ['CERT_HAS_EXPIRED', 'expired'],
  ['CERT_NOT_YET_VALID', 'not-yet'],
  ['CERT_REVOKED', 'revoked'],
  ['ERR_TLS_CERT_ALTNAME_INVALID', 'name'],
]);

const TLS_SENTENCES: Readonly<Record<string, string>> = {
  'unknown-ca':
    'its certificate is signed by an authority this machine does not know. Add that authority’s certificate to ca-root.',
  expired: 'its certificate has expired. Renew the broker’s certificate, or check this machine’s clock.',
  'not-yet': 'its certificate is not valid yet. Check this machine’s clock.',
  revoked: 'its certificate was revoked. Give the broker a new one.',
  name: 'its certificate stands for another name. Use a name in `broker` that the certificate holds.',
};

/** What the broker's TLS alert means: it did not like us. */
const TLS_ALERTS: readonly (readonly [RegExp, string])[] = [
  [
    /CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE/,
    'it asks for a client certificate it can accept. Set cert-file and key-file.',
  ],
  [/CERTIFICATE_EXPIRED/, 'it says that our certificate has expired. Renew the files in cert-file and key-file.'],
  [/CERTIFICATE_REVOKED/, 'it says that our certificate was revoked. Renew the files in cert-file and key-file.'],
  [
    /UNKNOWN_CA|BAD_CERTIFICATE|CERTIFICATE_UNKNOWN|UNSUPPORTED_CERTIFICATE|ACCESS_DENIED|DECRYPT_ERROR/,
    'it does not accept our certificate. Check cert-file and the authority the broker trusts.',
  ],
  [/PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL/, 'it speaks no TLS of version 1.2 or later. Update the broker.'],
  [/WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST/, 'what answers there is not TLS. Check scheme and port.'],
];

const UNRESOLVED = new Set(['ENOTFOUND', 'EAI_AGAIN', 'EAI_FAIL', 'EAI_NODATA', 'EAI_NONAME']);
const CLOSED = new Set(['ECONNRESET', 'EPIPE', 'ECONNABORTED', 'ERR_STREAM_PREMATURE_CLOSE', 'ERR_STREAM_DESTROYED']);

/** The errno of an error, also of the first of several (Node tries all addresses of a name and reports them together). */
function codeOf(error: unknown): string | undefined {
  const own = errnoOf(error);
  if (own !== undefined || !(error instanceof AggregateError)) return own;
  const parts: readonly unknown[] = error.errors;
  return parts.map(errnoOf).find((code) => code !== undefined);
}

/** The failure that a TLS error means, or undefined when the error is none of TLS. */
export function tlsFailure(error: unknown, broker: BrokerAddress): Failure | undefined {
  const code = codeOf(error);
  if (code === undefined) return undefined;
  const known = TLS_SENTENCES[TLS_TEXTS.get(code) ?? ''];
  if (known !== undefined) return failure('tls', broker, `cannot trust ${broker.text}: ${known}`, error);
  if (!code.startsWith('ERR_SSL_') && code !== 'EPROTO') return undefined;
  const text = `${code} ${errorText(error).toUpperCase().replaceAll(' ', '_')}`;
  const alert = TLS_ALERTS.find(([pattern]) => pattern.test(text));
  const what = alert?.[1] ?? `${errorText(error)}. Check the certificates on both sides.`;
  return failure('tls', broker, `TLS with ${broker.text} failed: ${what}`, error);
}

/** The failure that an error of the network means, before there is a connection. */
export function networkFailure(error: unknown, broker: BrokerAddress): Failure {
  const tls = tlsFailure(error, broker);
  if (tls !== undefined) return tls;
  const code = codeOf(error) ?? '';
  if (UNRESOLVED.has(code))
    return failure(
      'unresolved',
      broker,
      `cannot reach ${broker.text}: its name has no address here (${code}). Check the name in \`broker\` and this machine’s DNS.`,
      error,
    );
  if (code === 'ECONNREFUSED')
    return failure(
      'unreachable',
      broker,
      `cannot reach ${broker.text}: the connection was refused. Check that the broker runs and listens on port ${broker.port}.`,
      error,
    );
  if (CLOSED.has(code))
    return failure('closed', broker, `${broker.text} closed the connection while it was being made.`, error);
  return failure(
    'unreachable',
    broker,
    `cannot reach ${broker.text}: ${code === '' ? errorText(error) : code}. Check the address, the network and any firewall.`,
    error,
  );
}

/** The end of a connection that was made: `error` is what the socket said, if anything. */
export function closedFailure(error: Error | undefined, broker: BrokerAddress, hadAnswered: boolean): Failure {
  const tls = tlsFailure(error, broker);
  if (tls !== undefined) return tls;
  const code = codeOf(error);
  const how = code === undefined ? '' : ` (${code})`;
  if (hadAnswered) return failure('closed', broker, `the connection to ${broker.text} was lost${how}.`, error);
  return failure(
    'closed',
    broker,
    `${broker.text} closed the connection before it answered${how}. Check the broker’s log: it may not accept this client id, certificate or protocol version.`,
    error,
    'closed-early',
  );
}

/** It took longer than whoever asked was ready to wait. */
export function lateFailure(broker: BrokerAddress, cause?: unknown): Failure {
  const text = `${broker.text} did not answer in time. Check the address, the network, any firewall and the broker’s load.`;
  return failure('timeout', broker, text, cause);
}
