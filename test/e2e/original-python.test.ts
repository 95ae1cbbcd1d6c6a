/** Python workers as the original's two generations have them, against the built daemon. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { mosquittoMissing, startMosquitto } from '../support/mosquitto.js';
import { contentOf, Operator } from '../support/operator.js';
import { Home, ROOT, Yggd } from '../support/yggd.js';

const hasGrpc = spawnSync('/usr/bin/python3', ['-c', 'import grpc, google.protobuf']).status === 0;
const skip = mosquittoMissing || (hasGrpc ? false : 'needs python3-grpcio');
const hasAbstract = Number.parseInt(process.versions.node, 10) >= 22;
const CONTENT = '{ "b":12345678901234567890, "a": 1.0 }';

async function homeWith(generation: '1' | '2', toml: string): Promise<Home> {
  const home = await Home.make();
  const name = `python-${generation}-worker`;
  await home.writeWorkerFile(name, `${toml}\nenv = ["GENERATION=${generation}"]\n`);
  await home.addProgram(name, await readFile(join(ROOT, 'test/support/original-python-worker'), 'utf8'));
  return home;
}

suite('Python workers of the original', { timeout: 120_000 }, () => {
  test(
    'one that knows abstract sockets only is served with socket = "abstract"',
    { skip: skip || (hasAbstract ? false : 'abstract sockets need Node 22') },
    async () => {
      await using broker = await startMosquitto();
      await using operator = await Operator.connect(broker.url, 'py1');
      await using home = await homeWith('1', 'socket = "abstract"');
      const options = { home, args: [`--broker=${broker.url}`, '--client-id=py1'] };
      for (const round of [1, 2]) {
        await using yggd = await Yggd.start(options);
        await operator.status(({ dispatchers }) => 'python_one' in dispatchers, 'the worker among the dispatchers');
        operator.forget();
        const ids = await Promise.all(Array.from({ length: 50 }, () => operator.send('python-one', CONTENT)));
        for (const answer of await Promise.all(ids.map((id) => operator.answerTo(id)))) {
          assert.equal(contentOf(answer), CONTENT);
        }
        // The second round shows that what a killed agent leaves behind is no hindrance.
        if (round === 1) await yggd.kill();
        else assert.equal(await yggd.stop(), 0);
      }
    },
  );

  test(
    'before Node 22 such a worker waits, and the log says what to do',
    { skip: skip || (hasAbstract ? 'this Node has abstract sockets' : false) },
    async () => {
      await using broker = await startMosquitto();
      await using home = await homeWith('1', 'socket = "abstract"');
      await using yggd = await Yggd.start({ home, args: [`--broker=${broker.url}`, '--client-id=py1'] });
      const line = await yggd.line('worker.config_invalid');
      assert.match(JSON.stringify(line), /needs Node 22 or newer/);
    },
  );

  test('one of the newer generation has GetConfig, Response and NotifyEvent', { skip }, async () => {
    await using broker = await startMosquitto({ persistence: true });
    // A session that outlives the broker, so that what the agent says before we are back is kept for us.
    await using operator = await Operator.connect(broker.url, 'py2', {
      reconnectPeriod: 100,
      clientId: 'operator',
      clean: false,
      properties: { sessionExpiryInterval: 600 },
    });
    await using home = await homeWith('2', '');
    await using yggd = await Yggd.start({
      home,
      args: [`--broker=${broker.url}`, '--client-id=py2', '--log-level=info', '--mqtt-reconnect-delay=50ms'],
    });
    await operator.status(({ dispatchers }) => 'python_two' in dispatchers, 'the worker among the dispatchers');
    const config = await operator.until(({ directive }) => directive === 'config', 'what GetConfig said');
    const known = config.content as Record<string, string>;
    assert.deepEqual(
      { ...known, socket_addr: undefined },
      {
        log_level: 'INFO',
        client_id: 'py2',
        socket_addr: undefined,
        server: broker.url,
        cert_file: '',
        key_file: '',
        ca_root: '',
      },
    );
    assert.match(known['socket_addr'] ?? '', /^\/.*\/d\.sock$/);

    const answer = await operator.answerTo(await operator.send('python_two', CONTENT));
    assert.equal(contentOf(answer), CONTENT);

    const event = (name: number): Promise<unknown> =>
      operator.until(
        ({ directive, content }) => directive === 'events' && (content as { event: number }).event === name,
        `the event ${name}`,
      );
    await broker.restart();
    await event(2);
    await event(3);

    operator.forget();
    await operator.command('disconnect');
    await operator.status(({ state }) => state === 'offline');
    yggd.child.kill('SIGHUP');
    await event(1);
    await event(3);
    assert.equal(await yggd.stop(), 0);
  });
});
