import assert from 'node:assert/strict';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { checkCredentials, type CredentialSettings } from '../../../src/config/credentials.js';
import { describeProblem } from '../../../src/config/problem.js';
import { Secret } from '../../../src/config/secret.js';
import { encryptKey, makeCertificate } from '../../support/certificates.js';
import { tempDir } from '../../support/temp.js';

const NONE: CredentialSettings = {
  certFile: undefined,
  keyFile: undefined,
  caRoot: [],
  passwordFile: undefined,
  proxyCredentialsFile: undefined,
  addressPassword: undefined,
};

async function problems(settings: Partial<CredentialSettings>, now?: number): Promise<readonly string[]> {
  const result = await checkCredentials({ ...NONE, ...settings }, now === undefined ? {} : { now });
  return result.kind === 'invalid' ? result.problems.map(describeProblem) : [];
}

test('a pair, an authority and passwords are read, and the common name is found', async () => {
  await using dir = await tempDir();
  const { cert, key } = await makeCertificate(dir.path, 'a', 'host-7');
  const [password, proxy] = [join(dir.path, 'password'), join(dir.path, 'proxy')];
  await writeFile(password, 'p@ss word\n', { mode: 0o600 });
  await writeFile(proxy, 'ann:secret', { mode: 0o600 });
  const settings = {
    certFile: cert,
    keyFile: key,
    caRoot: [cert],
    passwordFile: password,
    proxyCredentialsFile: proxy,
  };
  const result = await checkCredentials({ ...settings, addressPassword: new Secret('other') });
  assert.ok(result.kind === 'ok');
  const { credentials } = result;
  assert.equal(credentials.commonName, 'host-7');
  assert.deepEqual(credentials.ca, [await readFile(cert)]);
  assert.equal(credentials.key?.reveal(), await readFile(key, 'utf8'));
  assert.equal(credentials.password?.reveal(), 'p@ss word');
  assert.equal(credentials.proxyCredentials?.reveal(), 'ann:secret');
  assert.deepEqual(result.warnings, []);
});

test('nothing set is nothing, and a password of the address is taken', async () => {
  const result = await checkCredentials({ ...NONE, addressPassword: new Secret('x') });
  assert.equal(result.kind === 'ok' && result.credentials.password?.reveal(), 'x');
});

test('a key of another certificate is told by name', async () => {
  await using dir = await tempDir();
  const a = await makeCertificate(dir.path, 'a', 'a');
  const b = await makeCertificate(dir.path, 'b', 'b');
  assert.deepEqual(await problems({ certFile: a.cert, keyFile: b.key }), [
    `${b.key}: \`key-file\`: this key does not belong to the certificate ${a.cert}: set the pair that was issued together`,
  ]);
});

test('files that are missing, no certificate, no key, or under a passphrase are all told at once', async () => {
  await using dir = await tempDir();
  const { key } = await makeCertificate(dir.path, 'a', 'a');
  const [junk, locked, empty, two] = ['junk', 'locked', 'empty', 'two'].map((name) => join(dir.path, name)) as [
    string,
    string,
    string,
    string,
  ];
  await writeFile(junk, 'not a certificate');
  await writeFile(empty, '\n');
  await writeFile(two, 'a\nb\n');
  await encryptKey(key, locked);
  const absent = join(dir.path, 'absent');
  const found = await problems({
    certFile: junk,
    keyFile: locked,
    caRoot: [absent, junk],
    passwordFile: empty,
    proxyCredentialsFile: two,
  });
  assert.equal(found.length, 6);
  assert.match(found[0] ?? '', /junk: `cert-file`: it is not a certificate in PEM form/);
  assert.match(found[1] ?? '', /locked: `key-file`: the key is encrypted/);
  assert.match(found[2] ?? '', /absent: `ca-root`: cannot read the file: there is no such file/);
  assert.match(found[3] ?? '', /junk: `ca-root`: it is not a certificate/);
  assert.match(found[4] ?? '', /empty: `password-file`: the file is empty/);
  assert.match(found[5] ?? '', /two: `proxy-credentials-file`: the file must hold one line only/);
  assert.match((await problems({ keyFile: junk })).join(), /`key-file`: it is not a private key in PEM form/);
  assert.match((await problems({ proxyCredentialsFile: junk })).join(), /form user:password/);
});

test('a certificate that has expired or is not yet valid gives a warning, for it may be replaced while we run', async () => {
  await using dir = await tempDir();
  const { cert } = await makeCertificate(dir.path, 'a', 'a');
  const at = async (now: number) => {
    const result = await checkCredentials({ ...NONE, caRoot: [cert] }, { now });
    return result.kind === 'ok' ? result.warnings.map(describeProblem).join() : 'invalid';
  };
  assert.match(await at(Date.now() + 60 * 86_400_000), /the certificate expired on .*: renew it/);
  assert.match(await at(0), /not valid before .*: check the clock/);
  assert.equal(await at(Date.now() + 86_400_000), '');
});

test('a secret that every user can read gives a warning', async () => {
  await using dir = await tempDir();
  const file = join(dir.path, 'password');
  await writeFile(file, 'secret');
  await chmod(file, 0o644);
  const result = await checkCredentials({ ...NONE, passwordFile: file });
  assert.ok(result.kind === 'ok');
  assert.deepEqual(result.warnings.map(describeProblem), [
    `${file}: \`password-file\`: every user of this machine can read it: chmod o-rwx ${file}`,
  ]);
});

test('a secret prints as nothing but that it is one', () => {
  const secret = new Secret('hunter2');
  for (const text of [
    String(secret),
    JSON.stringify({ secret }),
    inspect(secret),
    inspect({ secret }, { showHidden: true }),
  ]) {
    assert.doesNotMatch(text, /hunter2/);
    assert.match(text, /redacted/);
  }
});
