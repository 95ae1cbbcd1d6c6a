/** Throw-away certificates for the processor's tests, made with openssl. */
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const EC_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

export interface Pair {
  readonly cert: Buffer;
  readonly key: Buffer;
}

export interface Authority {
  readonly ca: Buffer;
  /** A pair signed by this authority; `altNames` as openssl writes them (`DNS:localhost`). */
  issue(commonName: string, altNames: readonly string[]): Promise<Pair>;
}

/** A new authority whose files lie in `directory` under its name. */
export async function makeAuthority(directory: string, name: string): Promise<Authority> {
  const at = (file: string): string => join(directory, `${name}-${file}`);
  const [caFile, caKey] = [at('ca.crt'), at('ca.key')];
  const subject = ['-subj', `/CN=${name}`, '-days', '2'];
  await run('openssl', ['req', '-x509', ...EC_KEY, ...subject, '-keyout', caKey, '-out', caFile]);
  return {
    ca: await readFile(caFile),
    issue: async (commonName, altNames) => {
      const [key, request, extensions, cert] = ['key', 'csr', 'ext', 'crt'].map((end) => at(`${commonName}.${end}`));
      if (!key || !request || !extensions || !cert) throw new Error('four names, four files');
      await writeFile(extensions, `subjectAltName=${altNames.join(',')}\n`);
      await run('openssl', ['req', ...EC_KEY, '-subj', `/CN=${commonName}`, '-keyout', key, '-out', request]);
      const signer = ['-CA', caFile, '-CAkey', caKey, '-CAcreateserial', '-days', '2', '-extfile', extensions];
      await run('openssl', ['x509', '-req', '-in', request, ...signer, '-out', cert]);
      return { cert: await readFile(cert), key: await readFile(key) };
    },
  };
}
