/** `ygg connect --csr`: a key that stays here, and a request that somebody signs elsewhere. Run again, the key is kept. */
import { createPrivateKey, randomUUID } from 'node:crypto';
import { join, resolve } from 'node:path';
import { AgentError } from '../../errors.js';
import { KEY_NAME, merged, type EnrolContext } from './enrol.js';
import { makeDirectory, place, readIfThere } from './files.js';
import { readRecord, writeRecord } from './record.js';
import { newKey, signingRequest } from './signing-request.js';
import type { Way } from './way.js';

export interface SigningRequest {
  readonly clientId: string;
  /** PEM. */
  readonly request: string;
  readonly keyFile: string;
  readonly isKeyNew: boolean;
}

/** Makes the key where there is none, and the request; writes the request where a file is named. */
export async function makeRequest(
  way: Extract<Way, { kind: 'request' }>,
  { configuration }: Pick<EnrolContext, 'configuration'>,
): Promise<SigningRequest> {
  const { directory } = configuration;
  const record = await readRecord(directory);
  const keyFile = join(directory, KEY_NAME);
  const configured = configuration.value('client-id');
  const clientId = way.clientId ?? (typeof configured === 'string' ? configured : (record.clientId ?? randomUUID()));
  const old = await readIfThere(keyFile);
  const pem = old?.bytes.toString('utf8') ?? newKey();
  const request = requestBy(pem, clientId, keyFile);
  await makeDirectory(directory);
  await writeRecord(directory, {
    ...record,
    files: old === undefined ? merged(record.files, [keyFile]) : record.files,
    clientId,
  });
  if (old === undefined) await place({ path: keyFile, content: pem, mode: 0o600, gid: 0 });
  if (way.file !== undefined) await place({ path: resolve(way.file), content: request, mode: 0o644, gid: 0 });
  return { clientId, request, keyFile, isKeyNew: old === undefined };
}

function requestBy(pem: string, clientId: string, keyFile: string): string {
  let request;
  try {
    request = signingRequest(createPrivateKey(pem), clientId);
  } catch (cause) {
    throw new AgentError(
      'config.credentials',
      `${keyFile} is no private key that can be used: move it away, and a new one is made`,
      {},
      { cause },
    );
  }
  if (request !== undefined) return request;
  throw new AgentError(
    'config.credentials',
    `${keyFile} is neither an EC key on P-256 nor an RSA key: make the request with openssl req -new -key ${keyFile}`,
  );
}
