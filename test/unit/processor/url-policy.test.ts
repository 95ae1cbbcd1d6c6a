import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  createUrlPolicy,
  describeUrl,
  judgeUrl,
  parseHttpUrl,
  withDataHost,
} from '../../../src/processor/url-policy.js';
import type { UrlSettings } from '../../../src/processor/url-policy.js';

function judge(settings: UrlSettings, url: string): string {
  const verdict = judgeUrl(createUrlPolicy(settings), new URL(url));
  if (verdict.kind === 'refused') return 'refused';
  return `allowed${verdict.isListed ? ' listed' : ''}${verdict.isTrusted ? ' trusted' : ''}`;
}

test('without content-hosts any https host is allowed, and no plain http', () => {
  assert.equal(judge({}, 'https://any.example:8443/x'), 'allowed');
  assert.equal(judge({}, 'https://10.0.0.1/'), 'allowed');
  assert.equal(judge({}, 'http://any.example/'), 'refused');
  assert.equal(judge({}, 'ftp://any.example/'), 'refused');
});

test('an empty list allows nothing but data-host', () => {
  assert.equal(judge({ contentHosts: [] }, 'https://any.example/'), 'refused');
  assert.equal(judge({ contentHosts: [], dataHost: 'data.example' }, 'https://data.example/'), 'allowed trusted');
});

test('a host is listed for https at any port, host:port at that port, an origin for its scheme and port', () => {
  const contentHosts = [
    'a.example',
    'b.example:8443',
    'http://c.example',
    'https://d.example:9',
    'HTTP://E.Example:80',
  ];
  for (const [url, expected] of [
    ['https://a.example/', 'allowed listed trusted'],
    ['https://A.EXAMPLE.:9/', 'allowed listed trusted'],
    ['http://a.example/', 'refused'],
    ['https://sub.a.example/', 'refused'],
    ['https://b.example:8443/', 'allowed listed trusted'],
    ['https://b.example/', 'refused'],
    ['http://c.example/', 'allowed listed'],
    ['http://c.example:81/', 'refused'],
    ['https://c.example/', 'refused'],
    ['https://d.example:9/', 'allowed listed trusted'],
    ['http://e.example/', 'allowed listed'],
  ] as const) {
    assert.equal(judge({ contentHosts }, url), expected, url);
  }
});

test('loopback is allowed only where it is listed, in each form an address can be written', () => {
  for (const host of ['127.0.0.1', '0x7f.1', '2130706433', '[::1]', '[::ffff:127.0.0.1]']) {
    assert.equal(judge({}, `https://${host}/`), 'refused', host);
  }
  assert.equal(judge({ contentHosts: ['http://127.0.0.1:8080'] }, 'http://127.0.0.1:8080/'), 'allowed listed');
  assert.equal(judge({ contentHosts: ['::1', '[::1]:7'] }, 'https://[::1]:9/'), 'allowed listed trusted');
  assert.equal(judge({ contentHosts: ['169.254.169.254'] }, 'https://169.254.169.254/'), 'refused');
  assert.equal(judge({ dataHost: 'localhost' }, 'https://localhost/'), 'allowed trusted');
  assert.equal(judge({ dataHost: '127.0.0.1' }, 'https://127.0.0.1/'), 'refused');
});

test('hosts of the broker list are trusted by https at any port, in each way a broker is written', () => {
  const brokers = ['mqtts://user:secret@Broker.example:8883/path', 'ws://[fd00::1]:80', 'tcp://third.example'];
  assert.equal(judge({ brokers }, 'https://broker.example:9090/'), 'allowed trusted');
  assert.equal(judge({ brokers }, 'https://[fd00::1]/'), 'allowed trusted');
  assert.equal(judge({ brokers }, 'https://third.example/'), 'allowed trusted');
  assert.equal(judge({ brokers }, 'https://other.example/'), 'allowed');
});

test('data-host replaces the host, and the port only when it has one', () => {
  const replaced = (dataHost: string, url: string): string =>
    withDataHost(createUrlPolicy({ dataHost }), new URL(url)).href;
  assert.equal(replaced('data.example', 'https://x.example:8443/p?q#f'), 'https://data.example:8443/p?q#f');
  assert.equal(replaced('data.example:443', 'https://x.example:8443/p'), 'https://data.example/p');
  assert.equal(replaced('[::1]:81', 'http://x.example/p'), 'http://[::1]:81/p');
  assert.equal(replaced('  ', 'http://x.example/p'), 'http://x.example/p');
});

test('all entries that are no host are named at once', () => {
  const settings = {
    contentHosts: ['ok.example', 'a/b', 'http://x/path', 'ftp://x', '', '*.example'],
    dataHost: 'a b',
  };
  assert.throws(() => createUrlPolicy(settings), {
    code: 'config.invalid',
    message: /"a\/b".*"http:\/\/x\/path".*"ftp:\/\/x".*"".*"\*\.example".*data-host: "a b"/,
  });
});

test('a URL in a message for people has no user, password, query or fragment', () => {
  assert.equal(describeUrl(new URL('https://u:p@h.example:8/a/b?secret#c')), 'https://h.example:8/a/b');
});

test('only http and https URLs of a bounded length are parsed', () => {
  assert.equal(parseHttpUrl('https://h.example/')?.host, 'h.example');
  for (const text of ['', 'x', '/path', 'file:///etc/passwd', 'javascript:1', `https://h/${'x'.repeat(20_000)}`]) {
    assert.equal(parseHttpUrl(text), undefined);
  }
});
