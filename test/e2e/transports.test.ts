/** The built daemon over every transport and both versions of MQTT, against a real mosquitto. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { makeCertificates, type Certificates } from '../support/authority.js';
import { assertEnvelopes } from '../support/envelopes.js';
import { mosquittoMissing, startMosquitto, type Mosquitto } from '../support/mosquitto.js';
import { contentOf, Operator } from '../support/operator.js';
import { tempDir, type TempDir } from '../support/temp.js';
import { Home, Yggd } from '../support/yggd.js';

/** Contents that a program which parses and writes JSON anew would change, and some it would lose. */
const CONTENTS: Readonly<Record<string, string>> = {
  'a string': '"hello"',
  'an empty string': '""',
  'a string of blanks': '"  \\t "',
  null: 'null',
  true: 'true',
  false: 'false',
  zero: '0',
  'a negative zero': '-0',
  'a big integer': '12345678901234567890',
  'a big negative integer': '-98765432109876543210987654321',
  'a fraction of zero': '1.0',
  'many digits': '0.10000000000000000000000000000001',
  'a number beyond doubles': '1e400',
  'exponents in other clothes': '[1E+2,1e-7,0e0]',
  'an empty list': '[]',
  'an empty object': '{}',
  'white space inside': '{ "a" :\t[ 1 ,\n 2 ],\r\n "b":  { } }',
  'the order of keys': '{"z":1,"a":2,"10":3,"2":4}',
  'duplicate keys': '{"a":1,"a":2,"a":{"a":3,"a":4}}',
  'names of the prototype': '{"__proto__":{"x":1},"constructor":null,"toString":2}',
  escapes: '"\\u0041\\/\\b\\f\\n\\r\\t\\"\\\\\\u00e9"',
  'an escaped NUL': '"a\\u0000b"',
  'a lone surrogate as an escape': '"\\ud800"',
  'a pair as escapes': '"\\ud83d\\ude00"',
  unicode: '"é ß 漢字 😀 \u2028\u2029 \u200b \ufeff"',
  'unicode in a key': '{"ключ":"значение"}',
  nested: `${'['.repeat(30)}{"a":[{"b":[null,[],{}]}]}${']'.repeat(30)}`,
  'big integers deep inside': '{"ids":[12345678901234567890,{"n":18446744073709551616}]}',
  markup: '"<script>&amp;</script>"',
  '100 KiB': JSON.stringify('abcdefgh'.repeat(12_800)),
};
const HUGE = `{"body":${JSON.stringify('é'.repeat(1.5 * 1024 * 1024))}}`;

const VERSIONS = { '5': 'p5', '3.1.1': 'p2' } as const;
const TRANSPORTS = ['mqtt', 'mqtts', 'ws', 'wss'] as const;

suite('transports', { skip: mosquittoMissing, timeout: 300_000, concurrency: 2 }, () => {
  let directory: TempDir;
  let certificates: Certificates;
  let broker: Mosquitto;
  before(async () => {
    directory = await tempDir();
    certificates = await makeCertificates(directory.path);
    const { authority, server } = certificates;
    const tls = { caFile: authority.caFile, ...server, requireClientCertificate: true };
    broker = await startMosquitto({ tls, websockets: true, secureWebsockets: tls });
  });
  after(async () => {
    await broker[Symbol.asyncDispose]();
    await directory[Symbol.asyncDispose]();
  });

  /** Where the agent connects; the TLS listeners let only clients of our authority in. */
  function urlOf(transport: (typeof TRANSPORTS)[number]): string {
    const { port, tlsPort, wsPort, wssPort } = broker;
    const ports = { mqtt: port, mqtts: tlsPort, ws: wsPort, wss: wssPort };
    return `${transport}://127.0.0.1:${ports[transport]}`;
  }

  for (const [version, inLog] of Object.entries(VERSIONS)) {
    for (const transport of TRANSPORTS) {
      test(`MQTT ${version} over ${transport}: commands, presence and every content byte for byte`, async () => {
        const clientId = `agent-${transport}-${version.replaceAll('.', '')}`;
        await using home = await Home.make();
        await home.addWorker('echo-worker');
        await home.addRun(
          'huge-worker',
          ['--handler=huge', '--output-limit=4194304'],
          [process.execPath, '-e', "process.stdout.write(JSON.stringify('x'.repeat(3 * 1024 * 1024)))"],
        );
        await using operator = await Operator.connect(broker.url, clientId);
        const flags = [`--broker=${urlOf(transport)}`, `--mqtt-version=${version}`];
        if (transport === 'mqtts' || transport === 'wss') {
          // No client id is set: it is the common name of the certificate.
          const pair = await certificates.authority.issue(clientId);
          flags.push(`--cert-file=${pair.certFile}`, `--key-file=${pair.keyFile}`);
          flags.push(`--ca-root=${certificates.authority.caFile}`);
        } else flags.push(`--client-id=${clientId}`);
        await using yggd = await Yggd.start({ home, args: flags });

        await operator.status(({ state, dispatchers }) => state === 'online' && 'echo' in dispatchers);
        // c0: the session is kept.
        await broker.line(new RegExp(`connected from .* as ${clientId} \\(${inLog}, c0, `));

        const pong = await operator.answerTo(await operator.command('ping'));
        assert.deepEqual([pong.type, pong.content, pong.topic.endsWith('/control/out')], ['event', 'pong', true]);

        const sent = await Promise.all(
          Object.entries(CONTENTS).map(async ([name, content]) => {
            const id = await operator.send('echo', content, { metadata: { name } });
            return { name, content, id };
          }),
        );
        for (const { name, content, id } of sent) {
          const answer = await operator.answerTo(id);
          assert.ok(contentOf(answer) === content, `${name}: ${contentOf(answer).slice(0, 200)}`);
          assert.deepEqual([answer.directive, answer.metadata], ['echo', { name }]);
        }
        // mosquitto 2.0.11 hands a large message to any websockets client in dribbles: seconds for 300 KB.
        if (!transport.startsWith('ws')) {
          assert.ok(contentOf(await operator.answerTo(await operator.send('echo', HUGE))) === HUGE);
        }
        const huge = await operator.answerTo(await operator.send('huge', 'null'));
        assert.ok(contentOf(huge) === JSON.stringify('x'.repeat(3 * 1024 * 1024)));
        const nothing = await operator.answerTo(await operator.send('echo', undefined));
        assert.equal(contentOf(nothing), 'null');

        operator.forget();
        await operator.command('reconnect', { delay: 0 });
        await operator.status(({ state, dispatchers }) => state === 'online' && 'echo' in dispatchers, 'online again');
        await broker.line(new RegExp(`connected from .* as ${clientId} \\(`), 2);
        assert.equal(contentOf(await operator.answerTo(await operator.send('echo', '1.0'))), '1.0');

        operator.forget();
        await yggd.stop();
        await operator.status(({ state, dispatchers }) => state === 'offline' && Object.keys(dispatchers).length === 0);
        assertEnvelopes(operator.everything, 'connection-status', 'event', 'data');
      });
    }
  }

  test('without a version set, MQTT 5 is spoken where the broker can', async () => {
    await using home = await Home.make();
    await using operator = await Operator.connect(broker.url, 'auto');
    await using yggd = await Yggd.start({ home, args: [`--broker=${broker.url}`, '--client-id=auto'] });
    await operator.status(({ state }) => state === 'online');
    await operator.answerTo(await operator.command('ping'));
    await broker.line(/connected from .* as auto \(p5, /);
    assert.equal(await yggd.stop(), 0);
  });

  test('a server that speaks only MQTT 3.1.1 gets its answers from an agent that speaks 5', async () => {
    await using home = await Home.make();
    await home.addWorker('echo-worker');
    await using operator = await Operator.connect(broker.url, 'mixed', { protocolVersion: 4 });
    await using yggd = await Yggd.start({ home, args: [`--broker=${broker.url}`, '--client-id=mixed'] });
    await operator.status(({ state }) => state === 'online');
    const answer = await operator.answerTo(await operator.send('echo', '1e400', { metadata: { a: 'b' } }));
    assert.deepEqual([contentOf(answer), answer.metadata], ['1e400', { a: 'b' }]);
    assert.equal(await yggd.stop(), 0);
  });
});
