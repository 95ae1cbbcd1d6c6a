import assert from 'node:assert/strict';
import { copyFile, rename } from 'node:fs/promises';
import { suite, test } from 'node:test';
import { makeCertificates, type Pair } from '../support/authority.js';
import { mosquittoMissing, startMosquitto } from '../support/mosquitto.js';
import { Operator } from '../support/operator.js';
import { tempDir } from '../support/temp.js';
import { Home, Yggd } from '../support/yggd.js';

suite('certificates that change while the daemon runs', { timeout: 120_000, skip: mosquittoMissing }, () => {
  test('a new pair is taken over with the session kept; a wrong one is told and the old one stays in use', async () => {
    await using dir = await tempDir();
    await using home = await Home.make();
    await home.addWorker('echo-worker');
    const { authority, server, client } = await makeCertificates(dir.path);
    const [second, third] = [await authority.issue('second'), await authority.issue('third')];
    await using broker = await startMosquitto({
      tls: { ...authority, ...server, requireClientCertificate: true, identityAsUsername: true },
    });
    const [cert, key] = [home.path('config/agent.crt'), home.path('config/agent.key')];
    const put = async (certOf: Pair, keyOf: Pair): Promise<void> => {
      await copyFile(keyOf.keyFile, `${key}.new`);
      await copyFile(certOf.certFile, `${cert}.new`);
      await rename(`${key}.new`, key);
      await rename(`${cert}.new`, cert);
    };
    await put(client, client);
    const files = [`--cert-file=${cert}`, `--key-file=${key}`, `--ca-root=${authority.caFile}`];
    const address = `--broker=mqtts://localhost:${broker.tlsPort}`;
    await using yggd = await Yggd.start({ home, args: [address, ...files, '--client-id=c'] });
    const first = await yggd.line('connection.up');
    await using operator = await Operator.connect(broker.url, 'c');
    await operator.status(({ dispatchers }) => 'echo' in dispatchers);
    await broker.line(/as c .*u'client-1'/);
    const echoes = async (): Promise<void> => {
      assert.equal((await operator.answerTo(await operator.send('echo', '"x"'))).content, 'x');
    };
    await echoes();

    // Found by itself.
    await put(second, second);
    await yggd.line('credentials.renewed');
    const renewed = await yggd.line('connection.up', (entry) => entry !== first);
    assert.equal(renewed['sessionPresent'], true);
    await broker.line(/as c .*u'second'/);
    await echoes();

    // The wrong key: told, by the watch and by a reload, and nothing is cut.
    await put(third, second);
    const kept = await yggd.line('credentials.kept');
    assert.match(String(kept['problems']), /agent\.key: `key-file`: this key does not belong to the certificate/);
    yggd.child.kill('SIGHUP');
    const refused = await yggd.line('config.credentials');
    assert.match(String(refused.text), /nothing was reloaded/);
    await echoes();
    assert.equal(yggd.log.filter(({ event }) => event === 'connection.up').length, 2);

    // Mended, and at once with SIGHUP.
    await put(third, third);
    yggd.child.kill('SIGHUP');
    await broker.line(/as c .*u'third'/);
    await echoes();
    assert.equal(await yggd.stop(), 0);
  });
});
