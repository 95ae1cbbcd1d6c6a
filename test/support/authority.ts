/** Throw-away certificates for tests, made with openssl: an authority, and pairs signed by it. */
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

/** A certificate and its key, as paths of PEM files and as their bytes. */
export interface Pair {
  readonly certFile: string;
  readonly keyFile: string;
  readonly cert: Buffer;
  readonly key: Buffer;
}

export interface PairOptions {
  /** The common name; the default is the pair's name. */
  readonly commonName?: string;
  /** DNS names and addresses the certificate stands for, as openssl writes them (`DNS:localhost`). */
  readonly altNames?: readonly string[];
  /** A certificate whose time ended yesterday. */
  readonly isExpired?: boolean;
}

export interface Authority {
  readonly caFile: string;
  readonly ca: Buffer;
  /** Makes `NAME.crt` and `NAME.key` in the authority's directory, signed by it. */
  issue(name: string, options?: PairOptions): Promise<Pair>;
}

export interface Certificates {
  readonly authority: Authority;
  /** For 127.0.0.1, ::1 and localhost. */
  readonly server: Pair;
  /** Common name `client-1`. */
  readonly client: Pair;
}

/** An authority, a server pair for the loopback and a client pair, all in `directory`. */
export async function makeCertificates(directory: string): Promise<Certificates> {
  const authority = await makeAuthority(directory);
  const altNames = ['DNS:localhost', 'IP:127.0.0.1', 'IP:::1'];
  const [server, client] = await Promise.all([
    authority.issue('server', { commonName: 'localhost', altNames }),
    authority.issue('client', { commonName: 'client-1' }),
  ]);
  return { authority, server, client };
}

/** A new authority; `name` keeps several apart in one directory. */
export async function makeAuthority(directory: string, name = 'ca'): Promise<Authority> {
  const caFile = join(directory, `${name}.crt`);
  const caKey = join(directory, `${name}.key`);
  await run('openssl', [
    ...['req', '-x509', ...NEW_KEY, '-subj', `/CN=${name} of a test`, '-days', '2', '-keyout', caKey, '-out', caFile],
    ...['-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign,cRLSign'],
  ]);
  const issue = async (pair: string, options: PairOptions = {}): Promise<Pair> => {
    const at = (ending: string): string => join(directory, `${pair}.${ending}`);
    const [certFile, keyFile, request, extensions] = [at('crt'), at('key'), at('csr'), at('ext')];
    const subject = `/CN=${options.commonName ?? pair}`;
    await run('openssl', ['req', '-new', ...NEW_KEY, '-subj', subject, '-keyout', keyFile, '-out', request]);
    const altNames = options.altNames?.join(',');
    await writeFile(
      extensions,
      altNames === undefined ? 'basicConstraints=CA:FALSE\n' : `subjectAltName=${altNames}\n`,
    );
    await run('openssl', [
      ...['x509', '-req', '-in', request, '-CA', caFile, '-CAkey', caKey, '-extfile', extensions],
      ...['-set_serial', String(Math.floor(Math.random() * 2 ** 48) + 1)],
      // A negative number of days ends before today: the only way `openssl x509` knows to make an expired one.
      ...['-days', options.isExpired === true ? '-1' : '2', '-out', certFile],
    ]);
    const [cert, key] = await Promise.all([readFile(certFile), readFile(keyFile)]);
    return { certFile, keyFile, cert, key };
  };
  return { caFile, ca: await readFile(caFile), issue };
}
