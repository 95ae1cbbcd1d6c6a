/** Where the agent lets itself be sent, and as whom: names, addresses, redirects, TLS, proxies. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { connect, type Socket } from 'node:net';
import { once } from 'node:events';
import { test } from 'node:test';
import type { ServerOptions } from 'node:https';
import type { Setup } from './processor-setup.js';
import { ECHO, startProcessor } from './processor-setup.js';
import { makeAuthority } from './processor-certificates.js';
import { startServer } from '../support/http.js';
import { tempDir } from '../support/temp.js';

/** Sends a message with this URL and tells how it went. */
async function outcome(setup: Setup, url: string): Promise<string> {
  const id = `to ${url}`;
  const key = await setup.send({ id, content: url });
  return Promise.race([
    setup.ready(key).then(async () => (await setup.body(key)).toString()),
    setup.answerTo(id).then(({ metadata }) => `${metadata['error-code']}: ${metadata['error']}`),
  ]);
}

const loopback = (): Promise<readonly string[]> => Promise.resolve(['127.0.0.1']);

test('loopback is refused unless it is listed, by address, by mapped address and by name', async () => {
  await using server = await startServer((_request, response) => response.end('reached'));
  await using setup = await startProcessor({ resolve: loopback });
  await setup.register(ECHO, true);
  for (const host of ['127.0.0.1', '127.9.9.9', '2130706433', '[::1]', '[::ffff:127.0.0.1]', 'rebound.example']) {
    assert.match(await outcome(setup, `https://${host}:${server.port}/`), /^fetch-failed: .*loopback/, host);
  }
  assert.match(await outcome(setup, server.origin), /^fetch-failed: .*plain http/);
  assert.equal(server.requests.length, 0);
  assert.equal(server.connections, 0);
});

test('an address that is never allowed stays refused where its name is listed', async () => {
  await using setup = await startProcessor({
    urls: { contentHosts: ['metadata.example', '169.254.169.254'] },
    resolve: () => Promise.resolve(['169.254.169.254', 'fe80::1']),
  });
  await setup.register(ECHO, true);
  assert.match(await outcome(setup, 'https://metadata.example/'), /metadata address, fe80::1 is a link-local address/);
  assert.match(await outcome(setup, 'https://169.254.169.254/'), /is a metadata address/);
});

test('a host that is not in content-hosts is refused before its name is resolved', async () => {
  const resolved: string[] = [];
  await using setup = await startProcessor({
    urls: { contentHosts: ['good.example'] },
    resolve: (name) => {
      resolved.push(name);
      return Promise.reject(new Error('no such name'));
    },
    limits: { maxFetches: 1 },
  });
  await setup.register(ECHO, true);
  assert.match(await outcome(setup, 'https://evil.example/'), /not in content-hosts/);
  assert.match(await outcome(setup, 'https://good.example/'), /no such name/);
  assert.deepEqual(resolved, ['good.example']);
});

test('the connection goes to the address that was checked: other addresses of the name are left out', async () => {
  await using server = await startServer((_request, response) => response.end('pinned'));
  const answers = [['0.0.0.0', '127.0.0.1', '224.0.0.1']];
  let asked = 0;
  await using setup = await startProcessor({
    urls: { contentHosts: [`http://twice.example:${server.port}`] },
    resolve: () => {
      asked += 1;
      return Promise.resolve(answers.shift() ?? ['169.254.169.254']);
    },
  });
  await setup.register(ECHO, true);
  assert.equal(await outcome(setup, `http://twice.example:${server.port}/`), 'pinned');
  assert.equal(asked, 1);
  assert.equal(server.requests[0]?.headers['host'], `twice.example:${server.port}`);
});

test('redirects are followed five times, and each is checked like the first URL', async () => {
  await using server = await startServer((request, response) => {
    const [, kind, count = '0'] = request.url.split('/');
    if (kind === 'hops' && count !== '0') {
      response.writeHead(302, { location: `/hops/${Number(count) - 1}` }).end('moved');
    } else if (kind === 'to') {
      response.writeHead(307, { location: decodeURIComponent(count) }).end();
    } else response.end('arrived');
  });
  await using setup = await startProcessor({
    urls: { contentHosts: [server.origin, 'https://inside.example'] },
    limits: { maxFetches: 1 },
    resolve: () => Promise.resolve(['169.254.169.254']),
  });
  await setup.register(ECHO, true);
  assert.equal(await outcome(setup, `${server.origin}/hops/5`), 'arrived');
  assert.match(await outcome(setup, `${server.origin}/hops/6`), /redirects more than 5 times/);
  const to = (url: string): string => `${server.origin}/to/${encodeURIComponent(url)}`;
  assert.match(await outcome(setup, to(`http://localhost:${server.port}/`)), /plain http to localhost/);
  assert.match(await outcome(setup, to('https://[::1]/')), /not in content-hosts/);
  assert.match(await outcome(setup, to('https://inside.example/')), /inside.example.* metadata address/);
  assert.match(await outcome(setup, to('file:///etc/passwd')), /redirects to what is no http URL/);
});

test('data-host takes the place of the host of each URL', async () => {
  await using server = await startServer((_request, response) => response.end('proxied'));
  const place = `127.0.0.1:${server.port}`;
  await using setup = await startProcessor({ urls: { dataHost: place, contentHosts: [`http://${place}`] } });
  await setup.register(ECHO, true);
  assert.equal(await outcome(setup, 'http://elsewhere.example:8080/path?q=1'), 'proxied');
  const seen = server.seen.next(AbortSignal.timeout(10_000));
  await setup.reply({ to: 'http://elsewhere.example/result', content: Buffer.from('x') });
  assert.equal((await seen).url, '/result');
  assert.equal(server.requests[0]?.url, '/path?q=1');
});

test('over TLS the peer must be who the URL names, and only hosts of the operator see the certificate', async () => {
  await using dir = await tempDir();
  const authority = await makeAuthority(dir.path, 'ours');
  const pair = await authority.issue('server', ['DNS:localhost', 'IP:127.0.0.1']);
  const client = await authority.issue('client-1', ['DNS:client-1']);
  const stranger = await makeAuthority(dir.path, 'stranger');
  const tls: ServerOptions = { ...pair, ca: authority.ca, requestCert: true, rejectUnauthorized: false };
  await using server = await startServer((request, response) => response.end(request.clientName ?? 'nobody'), tls);
  const identity = { ca: [authority.ca], cert: client.cert, key: client.key };
  const listed = { contentHosts: [`localhost:${server.port}`] };
  const url = `https://localhost:${server.port}/`;

  await using known = await startProcessor({ urls: listed, tls: identity });
  await known.register(ECHO, true);
  assert.equal(await outcome(known, url), 'client-1');
  known.processor.reconfigure({ tls: { ca: [authority.ca] } });
  assert.equal(await outcome(known, `${url}again`), 'nobody');
  assert.throws(() => known.processor.reconfigure({ tls: { ...identity, cert: 'no certificate' } }));
  assert.equal(await outcome(known, `${url}still`), 'nobody');

  await using strict = await startProcessor({ urls: listed, tls: { ca: [stranger.ca] }, limits: { maxFetches: 1 } });
  await strict.register(ECHO, true);
  assert.match(await outcome(strict, url), /^fetch-failed: .*(certificate|signature)/);

  await using wrongName = await startProcessor({
    urls: { contentHosts: ['other.example'] },
    tls: identity,
    resolve: loopback,
    limits: { maxFetches: 1 },
  });
  await wrongName.register(ECHO, true);
  assert.match(await outcome(wrongName, `https://other.example:${server.port}/`), /does not match|altnames/i);
});

test('a host of the broker list sees the certificate, any other https host does not', async () => {
  await using dir = await tempDir();
  const authority = await makeAuthority(dir.path, 'ours');
  const client = await authority.issue('client-1', ['DNS:client-1']);
  const pair = await authority.issue('names', ['DNS:broker.example', 'DNS:content.example']);
  const tls: ServerOptions = { ...pair, ca: authority.ca, requestCert: true, rejectUnauthorized: false };
  await using server = await startServer((request, response) => response.end(request.clientName ?? 'nobody'), tls);
  // A proxy that resolves nothing lets public names end on this machine.
  await using proxy = await startProxy((_authority) => server.port);
  await using setup = await startProcessor({
    urls: { brokers: ['mqtts://broker.example:8883'] },
    tls: { ca: [authority.ca], cert: client.cert, key: client.key },
    resolve: () => Promise.resolve(['192.0.2.7']),
    proxyFor: () => ({ url: new URL(proxy.origin), authorization: 'Basic eDp5' }),
  });
  await setup.register(ECHO, true);
  assert.equal(await outcome(setup, 'https://broker.example/'), 'client-1');
  assert.equal(await outcome(setup, 'https://content.example/'), 'nobody');
  assert.deepEqual(proxy.asked, [
    ['192.0.2.7:443', 'Basic eDp5'],
    ['192.0.2.7:443', 'Basic eDp5'],
  ]);
});

test('a proxy is asked for the checked address, or for the name of a listed host where it resolves', async () => {
  await using server = await startServer((_request, response) => response.end('through'));
  await using proxy = await startProxy(() => server.port);
  const shared = {
    urls: { contentHosts: ['http://listed.example'] },
    resolve: () => Promise.resolve(['2001:db8::7']),
    proxyFor: () => ({ url: new URL(proxy.origin) }),
  };
  await using checked = await startProcessor(shared);
  await checked.register(ECHO, true);
  assert.equal(await outcome(checked, 'http://listed.example/'), 'through');
  await using named = await startProcessor({ ...shared, proxyResolves: true });
  await named.register(ECHO, true);
  assert.equal(await outcome(named, 'http://listed.example/'), 'through');
  assert.deepEqual(
    proxy.asked.map(([authority]) => authority),
    ['[2001:db8::7]:80', 'listed.example:80'],
  );
});

test('a proxy that refuses is named in the failure', async () => {
  await using proxy = await startProxy(() => undefined);
  await using setup = await startProcessor({
    resolve: () => Promise.resolve(['192.0.2.7', '192.0.2.8']),
    proxyFor: () => ({ url: new URL(proxy.origin) }),
    limits: { maxFetches: 1 },
  });
  await setup.register(ECHO, true);
  assert.match(
    await outcome(setup, 'https://x.example/'),
    /the proxy 127.0.0.1:\d+ answered 403 to CONNECT 192.0.2.8:443/,
  );
});

test('a connection that does not come to stand in its time is a failure like others', async () => {
  await using server = await startServer((_request, response) => response.end());
  // It accepts and says nothing: the TLS handshake never ends.
  await using setup = await startProcessor({
    urls: { contentHosts: ['slow.example'] },
    resolve: () => new Promise(() => undefined),
    limits: { maxFetches: 1, connectTimeout: 50 },
  });
  await setup.register(ECHO, true);
  assert.match(
    await outcome(setup, `https://slow.example:${server.port}/`),
    /no connection to slow.example:\d+ within 0.05 s/,
  );
});

interface Proxy extends AsyncDisposable {
  readonly origin: string;
  /** Authority and Proxy-Authorization of each CONNECT. */
  readonly asked: [string, string | undefined][];
}

/** A CONNECT proxy that ends each tunnel at the port `portOf` names on this machine, or refuses it. */
async function startProxy(portOf: (authority: string) => number | undefined): Promise<Proxy> {
  const asked: Proxy['asked'] = [];
  const sockets = new Set<Socket>();
  const server = createServer();
  server.on('connection', (socket: Socket) => sockets.add(socket));
  server.on('connect', (request, client: Socket) => {
    const authority = request.url ?? '';
    asked.push([authority, request.headers['proxy-authorization']]);
    const port = portOf(authority);
    if (port === undefined) {
      client.end('HTTP/1.1 403 Forbidden\r\n\r\n');
      return;
    }
    const upstream = connect(port, '127.0.0.1', () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n');
      upstream.pipe(client).pipe(upstream);
    });
    for (const socket of [upstream, client]) socket.on('error', () => undefined);
    sockets.add(upstream);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  return {
    origin: `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`,
    asked,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
