/**
 * An agent that was given secrets in every place where there is one, at the loudest log level, through its work and its
 * errors: none of them is in anything it writes, says or hands on.
 */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { suite } from 'node:test';
import { startConnectProxy } from '../support/connect-proxy.js';
import { receiveDatagrams } from '../support/datagrams.js';
import { fault } from '../support/fault.js';
import { makeAuthority } from '../support/authority.js';
import { mosquittoMissing, startMosquitto } from '../support/mosquitto.js';
import { contentOf, Operator } from '../support/operator.js';
import { walk } from '../support/walk.js';
import { Home, Yggd } from '../support/yggd.js';
import { runYggd } from '../support/yggd-once.js';

const BROKER = 'S3cret-of-the-broker';
const PROXY = 'S3cret-of-the-proxy';

/** Answers with its environment. */
const TELLTALE = "await serve({ handler: 'telltale' }, () => jsonReply({ ...process.env }));";

/** Each way in which a secret could be written down. */
function formsOf(secret: string): readonly string[] {
  const bytes = Buffer.from(secret);
  return [secret, encodeURIComponent(secret), bytes.toString('base64').replace(/=+$/, ''), bytes.toString('hex')];
}

function assertNowhere(secrets: readonly string[], where: string, text: string): void {
  for (const form of secrets.flatMap(formsOf)) {
    const at = text.indexOf(form);
    assert.equal(at, -1, `${where}: …${text.slice(Math.max(0, at - 120), at)}[it]`);
  }
}

suite('secrets', { timeout: 120_000, skip: mosquittoMissing }, () => {
  fault(
    'local attacker',
    'are in no log, no status, no answer, no file and no worker’s environment',
    {},
    async (run) => {
      await using home = await Home.make();
      await using broker = await startMosquitto({ users: { edge: BROKER, operator: 'operator' } });
      await using operator = await Operator.connect(broker.url, 'h', { username: 'operator', password: 'operator' });
      await using proxy = await startConnectProxy();
      await using systemd = await receiveDatagrams(home.path('notify.sock'));
      await home.addSdkWorker('telltale-worker', TELLTALE);
      const authority = await makeAuthority(home.path());
      const pair = await authority.issue('h');
      const key = await readFile(pair.keyFile, 'utf8');
      const file = async (name: string, text: string): Promise<string> => {
        await writeFile(home.path('config', name), text, { mode: 0o600 });
        return home.path('config', name);
      };
      // A line of the key's body is as good as the key.
      const keyLines = key.split('\n').filter((line) => line.length > 40);
      const secrets = [BROKER, PROXY, `edge:${BROKER}`, `user:${PROXY}`, ...keyLines];
      const address = `127.0.0.1:${broker.port}`;
      const proxyAddress = `http://user:${PROXY}@127.0.0.1:${proxy.port}`;
      await file(
        'config.toml',
        [
          `broker = ["mqtt://edge:${BROKER}@${address}"]`,
          'client-id = "h"',
          'log-level = "trace"',
          `cert-file = "${pair.certFile}"`,
          `key-file = "${pair.keyFile}"`,
          `content-hosts = ["http://127.0.0.1:1"]`,
          '',
        ].join('\n'),
      );
      const env = { HTTPS_PROXY: proxyAddress, HTTP_PROXY: proxyAddress, NOTIFY_SOCKET: home.path('notify.sock') };
      const yggd = Yggd.spawn({ home, args: [], env });
      await using _ = yggd;
      await operator.status(({ dispatchers }) => 'telltale' in dispatchers, 'a status with the worker');

      const answer = await operator.answerTo(await operator.send('telltale', '{}'));
      const told = JSON.parse(contentOf(answer)) as Record<string, string>;
      assert.equal(
        told['HTTPS_PROXY'],
        `http://127.0.0.1:${proxy.port}`,
        'where the proxy is, and not who we are there',
      );
      // The agent itself is known there: it came by it.
      const basic = `Basic ${Buffer.from(`user:${PROXY}`).toString('base64')}`;
      assert.ok(proxy.asked.some(({ headers }) => headers['proxy-authorization'] === basic));
      // Errors of all kinds, of which each could tell too much.
      await operator.answerTo(
        await operator.send('nobody', `"https://edge:${BROKER}@127.0.0.1:1/"`, { metadata: { ttl: '1' } }),
      );
      yggd.child.kill('SIGHUP');
      await yggd.line('config.reloaded');
      proxy.cut();
      await yggd.line('connection.lost');
      await file(
        'config.toml',
        `broker = ["http://edge:${BROKER}@${address}"]\nproxy = "socks5://user:${PROXY}@127.0.0.1"\n`,
      );
      yggd.child.kill('SIGHUP');
      await yggd.line('config.invalid');
      assert.equal(await yggd.stop(), 0);

      const log = [...yggd.log.map((entry) => JSON.stringify(entry)), ...yggd.other].join('\n');
      assert.ok(yggd.log.some((entry) => entry['level'] === 'debug'));
      assertNowhere(secrets, 'the log', log);
      assertNowhere(
        secrets,
        'what the fleet hears',
        operator.everything
          .map(({ raw }) => raw)
          .join('\n')
          .replaceAll(`"https://edge:${BROKER}@`, ''),
      );
      let status = '';
      for (let text = ''; !text.includes('STOPPING=1'); status += text) text = await systemd.next();
      assert.ok(status.includes('STATUS='));
      assertNowhere(secrets, 'the status', status);
      const files = (await walk(home.path('state'))).filter(({ kind }) => kind === 'file');
      for (const { path } of files) {
        // The message above is kept as it came.
        const text = (await readFile(path, 'latin1')).replaceAll(`https://edge:${BROKER}@`, '');
        assertNowhere(secrets, path, text);
      }
      // A daemon that does not even start says why, and no more.
      const { code, told: said } = await runYggd(home, []);
      assert.equal(code, 78);
      assert.ok(
        said.some((line) => line.includes('`proxy` must be an address')),
        said.join('\n'),
      );
      assertNowhere(secrets, 'what it says at a wrong start', said.join('\n'));
      run.test.diagnostic(
        `searched for ${secrets.length} secrets in ${log.split('\n').length} lines and ${files.length} files`,
      );
    },
  );

  fault('local attacker', 'kept in files are as quiet, and so is the embedded broker’s own', {}, async () => {
    await using home = await Home.make();
    await using proxy = await startConnectProxy(407);
    const write = (name: string, text: string): Promise<void> => writeFile(home.path(name), text, { mode: 0o600 });
    await write('password', `${BROKER}\n`);
    await write('proxy-credentials', `user:${PROXY}\n`);
    const secrets = [BROKER, PROXY, `user:${PROXY}`];
    {
      const files = [
        `--password-file=${home.path('password')}`,
        `--proxy-credentials-file=${home.path('proxy-credentials')}`,
      ];
      const args = ['--broker=mqtt://192.0.2.1', '--client-id=h', '--username=edge', '--log-level=trace', ...files];
      await using yggd = await Yggd.start({ home, args: [...args, `--proxy=http://127.0.0.1:${proxy.port}`] });
      await yggd.line('connection.failed');
      assert.ok(proxy.asked.length > 0);
      await yggd.stop();
      assertNowhere(secrets, 'the log', [...yggd.log.map((entry) => JSON.stringify(entry)), ...yggd.other].join('\n'));
    }
    await using yggd = await Yggd.start({ home, args: ['--embedded-broker=0', '--client-id=h', '--log-level=trace'] });
    await yggd.line('connection.up');
    await yggd.stop();
    const kept = JSON.parse(await readFile(home.path('state/embedded-broker.json'), 'utf8')) as { password: string };
    assertNowhere(
      [kept.password],
      'the log',
      [...yggd.log.map((entry) => JSON.stringify(entry)), ...yggd.other].join('\n'),
    );
  });
});
