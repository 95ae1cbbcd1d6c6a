import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loaded, problemsOf } from '../../support/settings.js';

const CONFIG = '/etc/yggdrasil/config.toml';

test('a file written for the original 0.2 starts our agent', async () => {
  const files = {
    [CONFIG]: `# yggdrasil global configuration settings

broker = [
    "ssl://connect.example.com:443"
]
cert-file = "/etc/pki/consumer/cert.pem"
key-file = "/etc/pki/consumer/key.pem"
ca-root = ["/etc/foreman/ca.pem"]
topic-prefix = "redhat/insights"
data-host = "cert.example.com"
log-level = "ERROR"
socket-addr = "@yggd"
`,
  };
  assert.deepEqual(await problemsOf({ files }), []);
  const { settings, warnings } = await loaded({ files, argv: [] });
  assert.equal(settings.topicPrefix, 'redhat/insights');
  assert.equal(settings.dataHost, 'cert.example.com');
  assert.equal(settings.logLevel, 'error');
  assert.deepEqual(settings.caRoot, ['/etc/foreman/ca.pem']);
  assert.equal(warnings.length, 1);
  assert.match(warnings[0] ?? '', /config\.toml:12: `socket-addr` of the original has no effect here/);
});

test('a file written for the original 0.4 starts our agent', async () => {
  const files = {
    [CONFIG]: `protocol = "mqtt"
server = ["tcp://broker.example.com:1883"]
path-prefix = "fleet"
log-level = "info"
client-id = "host-7"
cert-file = ""
key-file = ""
facts-file = "/var/lib/yggdrasil/canonical-facts.json"
http-retries = 3
http-timeout = "30s"
mqtt-connect-retry = true
mqtt-connect-retry-interval = "30s"
mqtt-auto-reconnect = true
mqtt-reconnect-delay = "0s"
mqtt-connect-timeout = "10s"
mqtt-publish-timeout = "30s"
message-journal = "/var/lib/yggdrasil/journal.db"
`,
  };
  const { settings, warnings } = await loaded({ files: { ...files }, argv: [] });
  assert.deepEqual(await problemsOf({ files }), []);
  assert.equal(settings.topicPrefix, 'fleet');
  assert.equal(settings.clientId, 'host-7');
  assert.equal(settings.certFile, undefined);
  assert.equal(settings.factsFile, '/var/lib/yggdrasil/canonical-facts.json');
  assert.equal(settings.mqttReconnectDelay, 100);
  assert.equal(settings.mqttConnectTimeout, 10_000);
  const names = warnings.map((line) => /`([a-z-]+)`/.exec(line)?.[1]);
  assert.deepEqual(
    new Set(names),
    new Set([
      'server',
      'path-prefix',
      'http-retries',
      'http-timeout',
      'mqtt-connect-retry-interval',
      'mqtt-publish-timeout',
      'message-journal',
    ]),
  );
});

test('the original’s server is our broker, and ours wins where both stand', async () => {
  const only = await loaded({ files: { [CONFIG]: 'canonical-facts = "/f.json"' } });
  assert.equal(only.settings.factsFile, '/f.json');
  const both = await loaded({ files: { [CONFIG]: 'path-prefix = "theirs"\ntopic-prefix = "ours"\n' } });
  assert.equal(both.settings.topicPrefix, 'ours');
  assert.match(both.warnings[0] ?? '', /config\.toml:1: `path-prefix`.*ignored, because `topic-prefix` is set/);
});

test('flags of the original are taken, with one dash or two', async () => {
  const argv = [
    '-topic-prefix',
    'x',
    '--path-prefix=y',
    '-log-level=debug',
    '--mqtt-auto-reconnect',
    '--http-retries',
    '3',
  ];
  const { settings, warnings } = await loaded({ argv });
  assert.deepEqual([settings.topicPrefix, settings.logLevel], ['x', 'debug']);
  assert.equal(warnings.filter((line) => line.includes('http-retries')).length, 1);
  assert.equal(warnings.filter((line) => line.includes('auto-reconnect')).length, 0);
});

test('a transport we do not speak is refused with what to do', async () => {
  assert.match(
    (await problemsOf({ files: { [CONFIG]: 'protocol = "http"\n' } })).join(),
    /config\.toml:1: the HTTP transport is not supported: set `broker`/,
  );
  assert.match(
    (await loaded({ files: { [CONFIG]: 'protocol = "none"\n' } })).warnings.join(),
    /`protocol` of the original has no effect/,
  );
});
