/** Certificates and keys of a test's own, made with openssl. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface CertificatePair {
  readonly cert: string;
  readonly key: string;
}

/** A self-signed certificate with this common name and its key, as `NAME.pem` and `NAME.key` in `dir`. */
export async function makeCertificate(dir: string, name: string, commonName: string): Promise<CertificatePair> {
  const [cert, key] = [join(dir, `${name}.pem`), join(dir, `${name}.key`)];
  const subject = ['-subj', `/O=test/CN=${commonName}`, '-days', '30'];
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  await run('openssl', ['req', '-x509', ...curve, ...subject, '-keyout', key, '-out', cert]);
  return { cert, key };
}

/** The same key under a passphrase. */
export async function encryptKey(key: string, out: string): Promise<void> {
  await run('openssl', ['pkcs8', '-topk8', '-in', key, '-out', out, '-passout', 'pass:secret']);
}
