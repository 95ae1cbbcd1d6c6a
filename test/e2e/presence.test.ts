/** What the agent tells of itself, and the commands that make it come and go: the built daemon at a real mosquitto. */
import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { after, before, suite, test } from 'node:test';
import { assertEnvelopes } from '../support/envelopes.js';
import { mosquittoMissing, startMosquitto, type Mosquitto } from '../support/mosquitto.js';
import { contentOf, Operator, type Heard, type StatusContent } from '../support/operator.js';
import { Scene } from '../support/scene.js';
import type { Home } from '../support/yggd.js';

const stateOf = ({ content }: Heard): string => (content as StatusContent).state;
const isStatus = ({ type }: Heard): boolean => type === 'connection-status';

suite('presence', { skip: mosquittoMissing, timeout: 240_000, concurrency: 2 }, () => {
  let broker: Mosquitto;
  before(async () => {
    broker = await startMosquitto();
  });
  after(() => broker[Symbol.asyncDispose]());

  /** How often this client has connected. */
  const connects = (clientId: string): number =>
    broker.lines.filter((line) => new RegExp(`connected from .* as ${clientId} \\(`).test(line)).length;

  /** What somebody who comes now is told: the retained status. */
  async function retained(clientId: string): Promise<Heard> {
    await using newcomer = await Operator.connect(broker.url, clientId);
    try {
      return await newcomer.until((heard) => isStatus(heard) && heard.retain, 'a retained status');
    } catch (cause) {
      throw new Error(`no status is retained; the broker’s log:\n${broker.lines.slice(-100).join('\n')}`, { cause });
    }
  }

  for (const version of ['5', '3.1.1'] as const) {
    const suffix = version.replaceAll('.', '');

    test(`online and offline are told, by stop and by death, and sent only grows (MQTT ${version})`, async () => {
      const clientId = `life-${suffix}`;
      await using scene = await Scene.open(broker, { clientId, version, directives: ['echo'] });
      const { operator, yggd: first } = scene;
      assert.equal(stateOf(await retained(clientId)), 'online');

      assert.equal(await first.stop(), 0);
      await operator.status(({ state }) => state === 'offline');
      const stopped = await retained(clientId);
      assert.deepEqual([stateOf(stopped), (stopped.content as StatusContent).dispatchers], ['offline', {}]);
      // Heard in this order: a clean end, told by the agent itself.
      const clean = operator.everything.filter(isStatus);

      operator.forget();
      await scene.again();
      await scene.online('echo');
      const before = operator.heard.filter(isStatus);
      operator.forget();
      await scene.yggd.kill();
      const will = await operator.status(({ state }) => state === 'offline', 'the will');
      assert.deepEqual((will.content as StatusContent).dispatchers, {});
      assert.equal(stateOf(await retained(clientId)), 'offline');

      operator.forget();
      await scene.again();
      await scene.online('echo');
      const last = operator.heard.filter((heard) => isStatus(heard) && stateOf(heard) === 'online');
      const sent = [...clean, ...before, ...last].map((heard) => Date.parse(heard.sent ?? ''));
      sent.reduce((earlier, later) => {
        assert.ok(later > earlier, `${later} came after ${earlier}`);
        return later;
      });
      // The will was made before it was known that it would be needed, yet after the run before its own.
      const willSent = Date.parse(will.sent ?? '');
      assert.ok(willSent > Date.parse(clean.at(-1)?.sent ?? '') && willSent < Date.parse(last[0]?.sent ?? ''));
      assertEnvelopes(operator.everything, 'connection-status');
    });

    test(`reconnect: the delay is checked first, a command that comes again is ignored (MQTT ${version})`, async () => {
      const clientId = `again-${suffix}`;
      await using scene = await Scene.open(broker, { clientId, version, directives: ['echo'] });
      const { operator, yggd } = scene;
      assert.equal(connects(clientId), 1);

      for (const delay of ['soon', '', '-1', -1, [], {}, true, 1e9]) {
        const messageId = await operator.command('reconnect', { delay });
        await scene.ping();
        await yggd.line('command.refused', (entry) => entry['messageId'] === messageId);
      }
      await operator.command('reconnect', []);
      await scene.ping();
      assert.equal(connects(clientId), 1, 'refused, and the connection stays');

      let expected = 1;
      for (const args of [undefined, null, {}, { delay: 0 }, { delay: '1' }]) {
        operator.forget();
        const messageId = await operator.command('reconnect', args);
        await scene.online('echo');
        await scene.ping();
        expected += 1;
        assert.equal(connects(clientId), expected, JSON.stringify(args));

        await operator.command('reconnect', args, messageId);
        await yggd.line('command.repeated', (entry) => entry['messageId'] === messageId);
        await scene.ping();
        assert.equal(connects(clientId), expected, 'the same command again');
      }
      assert.equal(contentOf(await operator.answerTo(await operator.send('echo', '1.0'))), '1.0');
      assertEnvelopes(operator.everything, 'connection-status', 'event', 'data');
    });

    test(`disconnect: the process stays up, what is sent meanwhile waits, SIGHUP brings it back (MQTT ${version})`, async () => {
      const clientId = `away-${suffix}`;
      await using scene = await Scene.open(broker, { clientId, version, directives: ['echo'] });
      const { operator, yggd } = scene;
      operator.forget();
      const messageId = await operator.command('disconnect');
      const event = await operator.answerTo(messageId);
      assert.deepEqual([event.type, event.content], ['event', 'disconnect']);
      await operator.status(({ state }) => state === 'offline');
      await broker.line(new RegExp(`Client ${clientId} disconnected\\.`));
      assert.equal(stateOf(await retained(clientId)), 'offline');
      assert.ok(
        operator.heard.findIndex((heard) => heard.type === 'event') < operator.heard.findIndex(isStatus),
        'the event comes before the offline status',
      );

      const waiting = await operator.send('echo', '"meanwhile"');
      operator.forget();
      assert.deepEqual([yggd.child.exitCode, yggd.child.signalCode, connects(clientId)], [null, null, 1]);
      yggd.child.kill('SIGHUP');
      await scene.online('echo');
      assert.equal(contentOf(await operator.answerTo(waiting)), '"meanwhile"');
      await operator.command('disconnect', undefined, messageId);
      await yggd.line('command.repeated');
      await scene.ping();
      assert.equal(connects(clientId), 2);
      assertEnvelopes(operator.everything, 'connection-status', 'event', 'data');
    });

    test(`workers that come, are replaced, die and go are told (MQTT ${version})`, async () => {
      const clientId = `crew-${suffix}`;
      const cat = (home: Home, name: string, feature: string): Promise<void> =>
        home.addRun(`${name}-worker`, [`--handler=${name}`, '--feature', `version=${feature}`], ['/bin/cat']);
      await using scene = await Scene.open(broker, { clientId, version, prepare: () => Promise.resolve() });
      const { operator, home, yggd } = scene;
      const told = async (expected: StatusContent['dispatchers']): Promise<Heard> => {
        const text = JSON.stringify(Object.entries(expected).toSorted());
        return operator.status(
          ({ dispatchers }) => JSON.stringify(Object.entries(dispatchers).toSorted()) === text,
          text,
        );
      };
      await told({});

      // Sent while there is no such worker, answered when there is.
      const early = await operator.send('first', '"early"');
      await cat(home, 'first', '1');
      await told({ first: { version: '1' } });
      assert.equal(contentOf(await operator.answerTo(early)), '"early"');
      await home.writeWorkerFile('second-worker', 'restart = "never"\n');
      await cat(home, 'second', '1');
      await told({ first: { version: '1' }, second: { version: '1' } });

      await cat(home, 'first', '2');
      await told({ first: { version: '2' }, second: { version: '1' } });
      assert.equal(contentOf(await operator.answerTo(await operator.send('first', '"new"'))), '"new"');

      // One that dies and is back within the grace was never away, for the fleet.
      const registered = yggd.log.filter(({ event }) => event === 'dispatcher.registered');
      assert.deepEqual(
        registered.map(({ directive }) => directive),
        ['first', 'second', 'first'],
      );
      const [, second = {}, { pid } = {}] = registered;
      operator.forget();
      yggd.forget();
      process.kill(Number(pid), 'SIGKILL');
      await yggd.line('dispatcher.registered');
      await scene.ping();
      for (const status of operator.heard.filter(isStatus)) {
        assert.deepEqual((status.content as StatusContent).dispatchers, {
          first: { version: '2' },
          second: { version: '1' },
        });
      }

      // One that does not come back is told after the grace.
      operator.forget();
      const died = Date.now();
      process.kill(Number(second['pid']), 'SIGKILL');
      await told({ first: { version: '2' } });
      assert.ok(Date.now() - died >= 4_900, 'not before the grace has passed');

      await rm(home.path('workers/first-worker'));
      await told({});
      assertEnvelopes(operator.everything, 'connection-status', 'data');
    });
  }

  test('a change of tags.toml is told, and without tags the field is left out', async () => {
    await using scene = await Scene.open(broker, { clientId: 'tags', directives: ['echo'] });
    const { operator, home } = scene;
    const file = home.path('config/tags.toml');
    const tagged = (text: string | undefined): Promise<Heard> =>
      operator.status(({ tags }) => (tags === undefined ? undefined : JSON.stringify(tags)) === text, text);
    await tagged(undefined);
    await writeFile(file, 'site = "Köln"\n');
    await tagged('{"site":"Köln"}');
    await writeFile(file, 'site = "Köln"\nrack = "7"\n');
    await tagged('{"site":"Köln","rack":"7"}');
    operator.forget();
    await rm(file);
    const without = await tagged(undefined);
    assert.deepEqual(Object.keys((without.content as StatusContent).dispatchers), ['echo']);
    assertEnvelopes(operator.everything, 'connection-status');
  });

  test('online is told once more after a connect, and then at each interval', async () => {
    await using scene = await Scene.open(broker, {
      clientId: 'often',
      directives: ['echo'],
      flags: ['--repeat-online-after=500ms', '--status-interval=1s'],
    });
    const { operator } = scene;
    operator.forget();
    await scene.online('echo');
    const [first] = operator.heard;
    await operator.until((heard) => isStatus(heard) && heard !== first, 'one more status');
    const ids = operator.everything.filter(isStatus).map(({ message_id: id }) => id);
    assert.equal(new Set(ids).size, ids.length, 'each with an id of its own');
  });

  test('statuses are not retained where the setting says so', async () => {
    await using scene = await Scene.open(broker, { clientId: 'plain', flags: ['--mqtt-retain-status=false'] });
    await using newcomer = await Operator.connect(broker.url, 'plain');
    await scene.ping();
    await newcomer.until((heard) => heard.type === 'event', 'the pong');
    assert.deepEqual(
      newcomer.heard.filter(({ retain }) => retain),
      [],
    );
  });
});
