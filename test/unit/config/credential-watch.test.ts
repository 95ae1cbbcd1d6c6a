import assert from 'node:assert/strict';
import { copyFile, mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, after, suite, test } from 'node:test';
import { CredentialWatch, type Credentials, type CredentialSettings } from '../../../src/config/index.js';
import { makeCertificate } from '../../support/certificates.js';
import { FakeClock } from '../../support/clock.js';
import { recordingLog, type RecordingLog } from '../../support/log.js';
import { tempDir, type TempDir } from '../../support/temp.js';

let issued: TempDir;
before(async () => {
  issued = await tempDir();
  for (const name of ['old', 'new']) await makeCertificate(issued.path, name, name);
});
after(() => issued[Symbol.asyncDispose]());

interface Watched extends AsyncDisposable {
  readonly dir: string;
  readonly clock: FakeClock;
  readonly log: RecordingLog;
  readonly watch: CredentialWatch;
  readonly seen: Credentials[];
  readonly settings: CredentialSettings;
  /** Puts a pair (or halves of two) in place, by `how`. */
  put(cert: string, key: string, how?: (from: string, to: string) => Promise<void>): Promise<void>;
  /** Lets the watch look, and waits until what it found is told. */
  look(): Promise<void>;
}

const COPY = (from: string, to: string): Promise<void> => copyFile(from, to);
const RENAME = async (from: string, to: string): Promise<void> => {
  await copyFile(from, `${to}.new`);
  await rename(`${to}.new`, to);
};

async function watched(more: Partial<CredentialSettings> = {}): Promise<Watched> {
  const temp = await tempDir();
  const dir = temp.path;
  const [certFile, keyFile] = [join(dir, 'cert.pem'), join(dir, 'key.pem')];
  const put: Watched['put'] = async (cert, key, how = COPY) => {
    await how(join(issued.path, `${cert}.pem`), certFile);
    await how(join(issued.path, `${key}.key`), keyFile);
  };
  await put('old', 'old');
  const settings: CredentialSettings = {
    certFile,
    keyFile,
    caRoot: [],
    passwordFile: undefined,
    proxyCredentialsFile: undefined,
    addressPassword: undefined,
    ...more,
  };
  const [clock, log, seen] = [new FakeClock(), recordingLog(), [] as Credentials[]];
  const watch = new CredentialWatch({ settings, clock, log, interval: 1000 });
  const scope = new AbortController();
  watch.changed.connect((credentials) => void seen.push(credentials), scope.signal);
  await watch.start(scope.signal);
  const look = async (): Promise<void> => {
    const isSet = (): boolean => clock.pending === 1;
    assert.ok(isSet());
    await clock.advance(1000);
    // The look reads files: it is over when the next one is set.
    while (!isSet()) await new Promise((resolve) => setImmediate(resolve));
  };
  return {
    ...{ dir, clock, log, watch, seen, settings, put, look },
    [Symbol.asyncDispose]: async () => {
      scope.abort();
      await temp[Symbol.asyncDispose]();
    },
  };
}

suite('the watch over credentials', () => {
  test('says nothing as long as nothing changes', async () => {
    await using w = await watched();
    for (let i = 0; i < 3; i++) await w.look();
    assert.equal(w.seen.length + w.log.lines.length, 0);
  });

  test('tells a new pair, whether it was written over the old one or renamed into its place', async () => {
    for (const how of [COPY, RENAME]) {
      await using w = await watched();
      await w.put('new', 'new', how);
      await w.look();
      assert.deepEqual(
        w.seen.map(({ commonName }) => commonName),
        ['new'],
      );
      await w.look();
      assert.equal(w.seen.length, 1);
    }
  });

  test('follows a symbolic link that is moved, as of a mounted secret', async () => {
    await using temp = await tempDir();
    const at = (...names: string[]): string => join(temp.path, ...names);
    for (const name of ['old', 'new']) {
      await mkdir(at(name));
      await copyFile(join(issued.path, `${name}.pem`), at(name, 'cert.pem'));
      await copyFile(join(issued.path, `${name}.key`), at(name, 'key.pem'));
    }
    await symlink('old', at('current'));
    await using w = await watched({ certFile: at('current/cert.pem'), keyFile: at('current/key.pem') });
    await symlink('new', at('next'));
    await rename(at('next'), at('current'));
    await w.look();
    assert.equal(w.seen[0]?.commonName, 'new');
  });

  test('keeps the old pair while the new one is wrong or half there, says so once, and tells the whole one', async () => {
    await using w = await watched();
    await w.put('new', 'old');
    await w.look();
    await w.look();
    assert.equal(w.seen.length, 0);
    assert.equal(w.log.lines.length, 1);
    const [line] = w.log.lines;
    assert.equal(line?.event, 'credentials.kept');
    assert.match(String(line.fields['problems']), /does not belong to the certificate/);
    await w.put('new', 'new', RENAME);
    await w.look();
    assert.equal(w.seen[0]?.commonName, 'new');
  });

  test('keeps the old pair while a file is missing', async () => {
    await using w = await watched();
    await rm(w.settings.keyFile ?? '');
    await w.look();
    assert.match(String(w.log.lines[0]?.fields['problems']), /no such file/);
    await w.put('old', 'old');
    await w.look();
    assert.equal(w.seen[0]?.commonName, 'old');
  });

  test('follows the password file, and never tells what is in it', async () => {
    await using temp = await tempDir();
    const passwordFile = join(temp.path, 'password');
    await writeFile(passwordFile, 'first-one\n', { mode: 0o600 });
    await using w = await watched({ passwordFile });
    await writeFile(passwordFile, 'two\nlines\n');
    await w.look();
    await writeFile(passwordFile, 'second-one\n');
    await w.look();
    assert.equal(w.seen[0]?.password?.reveal(), 'second-one');
    assert.doesNotMatch(JSON.stringify([w.log.lines, w.seen]), /second-one|two|lines"/);
  });

  test('looks no more once it was stopped, nor when there is nothing to look at', async () => {
    await using w = await watched();
    w.watch.stop();
    assert.equal(w.clock.pending, 0);
    await using nothing = await watchedNothing();
    assert.equal(nothing.clock.pending, 0);
  });
});

async function watchedNothing(): Promise<Watched> {
  return watched({ certFile: undefined, keyFile: undefined });
}
