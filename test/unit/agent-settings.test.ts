import assert from 'node:assert/strict';
import { rootCertificates } from 'node:tls';
import { test } from 'node:test';
import {
  configForWorkers,
  connectionSettings,
  dispatchLimits,
  isExcepted,
  processorLimits,
  proxyOf,
  routerSettings,
  storeSettings,
  tlsOf,
  urlSettings,
} from '../../src/agent-settings.js';
import { Secret, type Credentials } from '../../src/config/index.js';
import { loaded } from '../support/settings.js';

const NONE: Credentials = {
  cert: undefined,
  key: undefined,
  ca: [],
  password: undefined,
  proxyCredentials: undefined,
  commonName: undefined,
};

const settingsOf = async (...argv: string[]) => (await loaded({ argv })).settings;

test('limits reach the part they are for, in bytes and milliseconds', async () => {
  const settings = await settingsOf(
    '--spool-limit=2GiB',
    '--spool-reserve=1MiB',
    '--dead-limit=3MiB',
    '--dead-lifetime=4d',
    '--dedupe-window=5d',
    '--dedupe-limit=6',
    '--message-lifetime=7h',
    '--unknown-directive-lifetime=8s',
    '--result-lifetime=9h',
    '--max-attempts=11',
    '--max-metadata-size=12KiB',
    '--max-message-size=13MiB',
    '--content-limit=14MiB',
    '--fetch-stall=15s',
    '--fetch-concurrency=16',
    '--max-json-depth=17',
    '--mqtt-receive-maximum=18',
  );
  const [KIB, MIB, HOUR, DAY] = [2 ** 10, 2 ** 20, 3_600_000, 86_400_000];
  assert.deepEqual(storeSettings(settings), {
    stateDir: settings.stateDir,
    spool: { limit: 2 ** 31, reserve: MIB },
    dead: { bytes: 3 * MIB, age: 4 * DAY },
    dedupe: { age: 5 * DAY, count: 6 },
    lifetimes: { message: 7 * HOUR, unknownDirective: 8000, result: 9 * HOUR },
  });
  assert.deepEqual(dispatchLimits(settings), { maxAttempts: 11, metadataSize: 12 * KIB, resultSize: 13 * MIB });
  assert.deepEqual(processorLimits(settings), {
    contentLimit: 14 * MIB,
    fetchConcurrency: 16,
    stallTimeout: 15_000,
    resultLifetime: 9 * HOUR,
  });
  const router = routerSettings(settings);
  assert.deepEqual(router.decodeLimits, { maxDepth: 17, maxMetadata: 12 * KIB });
  assert.deepEqual([router.maxMessageSize, router.receiveMaximum], [13 * MIB, 18]);
});

test('an empty list of topics or directives, and a rate of 0, are no limit', async () => {
  const open = routerSettings(await settingsOf());
  assert.deepEqual([open.responseTopics, open.allowedDirectives, open.rateLimit], [undefined, undefined, undefined]);
  const bound = routerSettings(
    await settingsOf('--response-topics=a/#', '--allowed-directives=echo', '--directive-rate=5'),
  );
  assert.deepEqual([bound.responseTopics, bound.allowedDirectives, bound.rateLimit], [['a/#'], ['echo'], 5]);
});

test('credentials are asked for at each attempt, and authorities are added to the well-known ones', async () => {
  let credentials = NONE;
  const connection = connectionSettings(await settingsOf('--username=ann'), () => credentials);
  const current = { credentials: connection.credentials, tls: connection.tls };
  assert.ok(current.credentials !== undefined && current.tls !== undefined);
  assert.deepEqual(current.credentials(), { username: 'ann', password: undefined });
  assert.deepEqual(current.tls(), { cert: undefined, key: undefined });
  const [cert, ca] = [Buffer.from('cert'), Buffer.from('ca')];
  credentials = { ...NONE, cert, key: new Secret('key'), ca: [ca], password: new Secret('pw') };
  assert.deepEqual(current.credentials(), { username: 'ann', password: 'pw' });
  assert.deepEqual(current.tls(), { cert, key: 'key', ca: [...rootCertificates, ca] });
  assert.deepEqual(tlsOf(credentials), { ca: [ca], cert, key: 'key' });
});

test('a worker is told paths and addresses, and no password', async () => {
  const settings = await settingsOf('--broker=mqtts://ann:pw@broker:8883', '--log-level=warn', '--ca-root=/ca.pem');
  const told = configForWorkers({ ...settings, broker: ['mqtts://ann:pw@broker:8883'] }, 'me');
  assert.deepEqual(told, {
    logLevel: 'WARN',
    clientId: 'me',
    server: 'mqtts://broker:8883',
    certFile: '',
    keyFile: '',
    caRoot: '/ca.pem',
  });
  assert.equal(configForWorkers({ ...settings, broker: [] }, 'me').server, '');
  assert.equal(configForWorkers({ ...settings, broker: ['no address'] }, 'me').server, 'no address');
});

test('the URL policy knows the lists and the brokers', async () => {
  const settings = await settingsOf('--content-hosts=a:8443', '--data-host=d');
  assert.deepEqual(urlSettings(settings), { contentHosts: ['a:8443'], dataHost: 'd', brokers: settings.broker });
});

test('no-proxy excepts a host, all below it, a host with a port, or everything', () => {
  const cases: readonly (readonly [url: string, entry: string, isExcepted: boolean])[] = [
    ['https://a.example.com/', 'example.com', true],
    ['https://a.example.com/', '.example.com', true],
    ['https://EXAMPLE.com/', 'Example.COM', true],
    ['https://badexample.com/', 'example.com', false],
    ['https://example.com.evil/', 'example.com', false],
    ['https://example.com:8443/', 'example.com:8443', true],
    ['https://example.com/', 'example.com:8443', false],
    ['https://anything/', '*', true],
    ['https://10.0.0.1/', '10.0.0.1', true],
    ['https://example.com/', 'other', false],
  ];
  for (const [url, entry, expected] of cases)
    assert.equal(isExcepted(new URL(url), [entry]), expected, `${url} ${entry}`);
  assert.equal(isExcepted(new URL('https://a/'), []), false);
});

test('a proxy carries the credentials of its file, else those of its address, and none for what is excepted', async () => {
  const target = new URL('https://files.example.com/x');
  const none = proxyOf(await settingsOf(), () => NONE);
  assert.equal(none(target), undefined);
  assert.equal(proxyOf(await settingsOf('--proxy='), () => NONE)(target), undefined);

  const settings = await settingsOf('--proxy=http://ann:p%40w@proxy:3128', '--no-proxy=inside');
  const basic = (pair: string): string => `Basic ${Buffer.from(pair).toString('base64')}`;
  const percent = proxyOf(await settingsOf('--proxy=http://ann:50%@proxy:3128'), () => NONE);
  assert.equal(percent(target)?.authorization, basic('ann:50%'));
  const byAddress = proxyOf(settings, () => NONE);
  assert.equal(byAddress(target)?.authorization, basic('ann:p@w'));
  assert.equal(byAddress(new URL('https://db.inside/')), undefined);
  const filed: Credentials = { ...NONE, proxyCredentials: new Secret('bob:s:ecret') };
  assert.equal(proxyOf(settings, () => filed)(target)?.authorization, basic('bob:s:ecret'));

  const broker = 'mqtts://broker:8883';
  assert.equal(connectionSettings(settings, () => filed).proxy?.(broker), 'http://bob:s%3Aecret@proxy:3128/');
  assert.equal(connectionSettings(settings, () => NONE).proxy?.(broker), 'http://ann:p%40w@proxy:3128/');
  assert.equal(connectionSettings(settings, () => NONE).proxy?.('mqtts://inside'), undefined);
});
