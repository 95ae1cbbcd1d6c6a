/**
 * A key of the machine's own (EC, P-256) and the request to have its certificate signed (PKCS#10, RFC 2986). The request
 * holds the public key and a name, and is signed with the key, which never leaves the machine. DER is written here:
 * it is six lengths and tags, and no package of a certificate authority is worth carrying for them.
 */
import { createPublicKey, generateKeyPairSync, sign, type KeyObject } from 'node:crypto';

const SEQUENCE = 0x30;
const SET = 0x31;
const INTEGER = 0x02;
const BIT_STRING = 0x03;
const UTF8_STRING = 0x0c;
const ATTRIBUTES = 0xa0;
/** id-at-commonName, 2.5.4.3. */
const COMMON_NAME = Buffer.from('0603550403', 'hex');
/** ecdsa-with-SHA256, 1.2.840.10045.4.3.2 (RFC 5758, 3.2). */
const ECDSA_WITH_SHA256 = Buffer.from('06082a8648ce3d040302', 'hex');
/** sha256WithRSAEncryption with its NULL, 1.2.840.113549.1.1.11 (RFC 4055, 5). */
const RSA_WITH_SHA256 = Buffer.from('06092a864886f70d01010b0500', 'hex');

/** A new private key, PEM (PKCS#8). */
export function newKey(): string {
  const { privateKey } = generateKeyPairSync('ec', {
    namedCurve: 'prime256v1',
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  return privateKey;
}

/** The request for a certificate of this common name, PEM. Undefined for a key of another type than EC on P-256 or RSA. */
export function signingRequest(key: KeyObject, commonName: string): string | undefined {
  const algorithm = algorithmOf(key);
  if (algorithm === undefined) return undefined;
  const spki = createPublicKey(key).export({ type: 'spki', format: 'der' });
  const name = der(SEQUENCE, der(SET, der(SEQUENCE, COMMON_NAME, der(UTF8_STRING, Buffer.from(commonName)))));
  const info = der(SEQUENCE, der(INTEGER, Buffer.from([0])), name, spki, der(ATTRIBUTES));
  const signature = der(BIT_STRING, Buffer.from([0]), sign('sha256', info, key));
  const lines =
    der(SEQUENCE, info, der(SEQUENCE, algorithm), signature)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return ['-----BEGIN CERTIFICATE REQUEST-----', ...lines, '-----END CERTIFICATE REQUEST-----', ''].join('\n');
}

function algorithmOf(key: KeyObject): Buffer | undefined {
  if (key.asymmetricKeyType === 'rsa') return RSA_WITH_SHA256;
  const isP256 = key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1';
  return isP256 ? ECDSA_WITH_SHA256 : undefined;
}

/** One element: tag, length (X.690, 8.1.3), contents. */
function der(tag: number, ...contents: readonly Buffer[]): Buffer {
  const body = Buffer.concat(contents);
  if (body.length < 0x80) return Buffer.concat([Buffer.from([tag, body.length]), body]);
  const length = Buffer.from(body.length.toString(16).padStart(body.length > 0xff ? 4 : 2, '0'), 'hex');
  return Buffer.concat([Buffer.from([tag, 0x80 | length.length]), length, body]);
}
