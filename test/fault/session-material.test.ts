/** CONTRACT section 4, group session: certificates that are swapped under load, and a clock that is stepped. */
import assert from 'node:assert/strict';
import { copyFile, mkdir, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makeCertificates, type Pair } from '../support/authority.js';
import { RETURNING_ECHO } from '../support/book-worker.js';
import { ChaosBench, EAGER, HANDLER } from '../support/chaos-bench.js';
import { fault } from '../support/fault.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import { between } from '../support/seeded.js';
import type { StatusContent } from '../support/operator.js';
import { tempDir } from '../support/temp.js';

const options = { skip: mosquittoMissing, timeout: 600_000 };

/** How a pair gets to where the agent reads it. */
const SWAPS = ['rename', 'write', 'symlink'] as const;

fault('session', 'certificate swapped under load: good, wrong key, expired', options, async (run) => {
  await using dir = await tempDir();
  const { authority, server, client } = await makeCertificates(dir.path);
  await using chaos = await ChaosBench.make({
    tls: { ...server, caFile: authority.caFile, requireClientCertificate: true, identityAsUsername: true },
  });
  const { bench } = chaos;
  const [certFile, keyFile] = [join(dir.path, 'live/c.pem'), join(dir.path, 'live/k.pem')];
  await mkdir(dirname(certFile));
  const put = async (how: (typeof SWAPS)[number], cert: Pair, key: Pair): Promise<void> => {
    for (const [from, to] of [
      [key.keyFile, keyFile],
      [cert.certFile, certFile],
    ] as const) {
      if (how === 'write') {
        // Into the file that stands, not into what a link leads to.
        await rm(to, { force: true });
        await copyFile(from, to);
        continue;
      }
      if (how === 'rename') await copyFile(from, `${to}.new`);
      else await symlink(from, `${to}.new`);
      await rename(`${to}.new`, to);
    }
  };
  await put('rename', client, client);
  const yggd = bench.spawn([
    `--broker=mqtts://localhost:${bench.broker.tlsPort}`,
    `--ca-root=${authority.caFile}`,
    `--cert-file=${certFile}`,
    `--key-file=${keyFile}`,
    ...EAGER,
  ]);
  await bench.handling([HANDLER]);
  const expired = await authority.issue('expired', { isExpired: true });
  const ids: string[] = [];
  for (const round of run.each(1, 15)) {
    const how = SWAPS[between(run.random, 0, SWAPS.length - 1)] ?? 'rename';
    const fresh = await authority.issue(`fresh-${round}`);
    const other = await authority.issue(`other-${round}`);
    yggd.forget();
    ids.push(...chaos.send(50));
    await chaos.ledger.harm('link', async () => {
      await put(how, fresh, fresh);
      const up = await yggd.line('connection.up');
      assert.equal(up['sessionPresent'], true, `the session is kept (${how})`);
    });
    await bench.broker.line(new RegExp(`as host-1 .*u'fresh-${round}'`));
    // What cannot be used changes nothing, and is told.
    for (const [cert, key] of [
      [fresh, other],
      [expired, expired],
    ] as const) {
      yggd.forget();
      ids.push(...chaos.send(20));
      await put(how, cert, key);
      await yggd.line('credentials.kept');
      await chaos.answered(ids);
      assert.equal(yggd.log.filter(({ event }) => event === 'connection.lost').length, 0);
    }
  }
  await chaos.answered(ids);
  chaos.close(run);
  assert.equal(await yggd.stop(), 0);
});

/** libfaketime, which steps the wall clock of one process and leaves the monotonic one alone. */
const library = await findLibrary();

async function findLibrary(): Promise<string | undefined> {
  for (const base of ['/usr/lib', '/usr/lib64']) {
    const names = await readdir(base).catch((): string[] => []);
    for (const name of ['', ...names]) {
      const directory = join(base, name, 'faketime');
      const found = await readdir(directory).catch((): string[] => []);
      if (found.includes('libfaketimeMT.so.1')) return join(directory, 'libfaketimeMT.so.1');
    }
  }
  return undefined;
}

/** Every third message fails the first time, so that some wait in a back-off whenever the clock is stepped. */
const FAILING_FIRST = `globalThis.failed ??= new Set();
  if (Number(message.content) % 3 === 0 && !failed.has(message.messageId)) {
    failed.add(message.messageId);
    note('failed', message.messageId);
    throw new Error('not yet');
  }
  ${RETURNING_ECHO}`;

const clockMissing =
  library === undefined ? 'libfaketime is not installed (apt-get install libfaketime)' : mosquittoMissing;

fault('session', 'clock stepped an hour back and forth', { ...options, skip: clockMissing }, async (run) => {
  await using chaos = await ChaosBench.make({ body: FAILING_FIRST });
  const { bench, ledger } = chaos;
  const { home, operator } = bench;
  const stamp = home.path('clock');
  const step = async (hours: number): Promise<void> => {
    await writeFile(`${stamp}.new`, `${hours < 0 ? '' : '+'}${hours * 3600}\n`);
    await rename(`${stamp}.new`, stamp);
  };
  await step(0);
  const env = {
    LD_PRELOAD: library ?? '',
    FAKETIME_TIMESTAMP_FILE: stamp,
    FAKETIME_NO_CACHE: '1',
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
  };
  const yggd = await chaos.start([...EAGER, '--repeat-online-after=1s', '--log-level=debug'], { env });
  const ids: string[] = [];
  for (const round of run.each(2, 12)) {
    for (const hours of [-1, 0, 1, 0]) {
      ids.push(...chaos.send(12));
      await chaos.proxy.acknowledged.next(AbortSignal.timeout(30_000));
      await step(hours);
      // A link that is made anew tells a status by the clock as it is now.
      if (round % 2 === 0) chaos.proxy.cut();
      ids.push(...chaos.send(12));
    }
    await chaos.answered(ids);
  }
  const verdict = chaos.close(run);
  assert.equal(ledger.ids('refused').length, 0, 'nothing expired');
  assert.equal(verdict.messages, ids.length);
  const statuses = operator.everything.filter(({ type }) => type === 'connection-status');
  const sent = statuses
    .filter(({ content }) => (content as StatusContent).state === 'online')
    .map((heard) => Date.parse(heard.sent ?? ''));
  assert.ok(sent.length > 1);
  for (const [n, at] of sent.slice(1).entries()) assert.ok(at >= (sent[n] ?? 0), '`sent` never goes backwards');
  assert.equal(await yggd.stop(), 0);
});
