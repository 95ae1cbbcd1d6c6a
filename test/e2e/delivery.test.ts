/** What becomes of a message, from the broker to a worker and back: the built daemon at a real mosquitto. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, suite, test } from 'node:test';
import { assertEnvelopes } from '../support/envelopes.js';
import { startServer } from '../support/http.js';
import { mosquittoMissing, startMosquitto, type Mosquitto } from '../support/mosquitto.js';
import { contentOf, type Heard } from '../support/operator.js';
import { Scene } from '../support/scene.js';

/** The code of an error answer; its shape is checked on the way. */
function codeOf(answer: Heard, directive: string): string | undefined {
  const { status, 'error-code': code, error, ...rest } = answer.metadata ?? {};
  assert.equal(status, 'error', answer.raw);
  assert.ok(error !== undefined && error !== '', answer.raw);
  assert.deepEqual([rest, contentOf(answer), answer.directive], [{}, 'null', directive]);
  return code;
}

/** How often something with this `response_to` has been heard. */
const answersTo = (scene: Scene, id: string): number =>
  scene.operator.everything.filter((heard) => heard.response_to === id).length;

suite('delivery', { skip: mosquittoMissing, timeout: 240_000, concurrency: 2 }, () => {
  let broker: Mosquitto;
  before(async () => {
    broker = await startMosquitto();
  });
  after(() => broker[Symbol.asyncDispose]());

  /** Resolves when the broker has `count` acknowledgements of messages from this client. */
  const acknowledged = (clientId: string, count: number): Promise<string> =>
    broker.line(new RegExp(`Received PUBACK from ${clientId} `), count);

  for (const version of ['5', '3.1.1'] as const) {
    const suffix = version.replaceAll('.', '');

    test(`metadata comes back as text (MQTT ${version})`, async () => {
      await using scene = await Scene.open(broker, { clientId: `meta-${suffix}`, version });
      const { operator } = scene;
      const echoed = async (metadata: unknown): Promise<string> => {
        const { raw } = await operator.answerTo(await operator.send('echo', '1', { metadata }));
        return /"metadata":(\{.*\}),"content":1\}$/.exec(raw)?.[1] ?? raw;
      };
      assert.equal(await echoed(null), '{}');
      assert.equal(await echoed({}), '{}');
      const names = JSON.parse('{"__proto__":"p","constructor":"c","":"empty name","ключ":"é😀"}') as object;
      // A map of protobuf keeps no order.
      assert.deepEqual(
        new Map(Object.entries(JSON.parse(await echoed(names)) as object)),
        new Map(Object.entries(names)),
      );
      assert.deepEqual(JSON.parse(await echoed({ a: null, b: 7, c: true, d: false, e: -1.5 })), {
        a: '',
        b: '7',
        c: 'true',
        d: 'false',
        e: '-1.5',
      });
      const odd = { lines: 'a\r\nb', quote: '"\\', nul: 'a\0b' };
      assert.deepEqual(JSON.parse(await echoed(odd)), odd);
      assert.deepEqual(
        JSON.parse(await echoed({ priority: 'loud', ttl: 'soon', expires: 'never' })),
        { priority: 'loud', ttl: 'soon', expires: 'never' },
        'attributes that cannot be read are no reason to refuse a message',
      );
      const id = operator.newId();
      await operator.publish(
        'data/in',
        `{"type":"data","message_id":"${id}","directive":"echo","metadata":{"n":12345678901234567890},"content":2}`,
      );
      assert.deepEqual((await operator.answerTo(id)).metadata, { n: '12345678901234567890' });
      assertEnvelopes(operator.everything, 'connection-status', 'data');
    });

    test(`commands and data wait for their worker, in order of priority (MQTT ${version})`, async () => {
      const clientId = `wait-${suffix}`;
      await using scene = await Scene.open(broker, { clientId, version, prepare: () => Promise.resolve() });
      const { operator, home } = scene;
      const send = (priority: number): Promise<string> =>
        operator.send('my_echo', String(priority), { metadata: { priority: String(priority) } });
      const ids = [await send(5), await send(1), await send(9), await operator.send('my-echo', '"none"')];
      const [twice] = ids;
      assert.ok(twice !== undefined);
      await operator.send('my-echo', '"again"', { id: twice });
      const given = await operator.send('my-echo', '"not wanted"');
      await acknowledged(clientId, 6);

      await operator.command('cancel', { directive: 'my-echo', messageID: given });
      assert.equal(codeOf(await operator.answerTo(given), 'my-echo'), 'cancelled');
      const early = operator.newId();
      await operator.command('cancel', { directive: 'my_echo', messageID: early });
      await scene.ping();
      await operator.send('my_echo', '"cancelled before it came"', { id: early });
      assert.equal(codeOf(await operator.answerTo(early), 'my_echo'), 'cancelled');

      await home.addSdkWorker(
        'mine-worker',
        "await serve({ handler: 'my_echo' }, ({ content, metadata }) => ({ content, metadata }));",
      );
      const answers = await Promise.all(ids.map((id) => operator.answerTo(id)));
      assert.deepEqual(
        operator.heard.filter((heard) => answers.includes(heard)).map(({ content }) => content),
        [9, 5, 'none', 1],
      );
      assert.deepEqual(answers.at(-1)?.directive, 'my-echo', 'answered under the name it was asked by');

      // Again, now that it has ended; what is sent after it is a fence.
      await operator.send('my_echo', '"again"', { id: twice });
      await operator.answerTo(await operator.send('my_echo', '"fence"'));
      for (const id of [...ids, given, early]) assert.equal(answersTo(scene, id), 1);
      assertEnvelopes(operator.everything, 'connection-status', 'event', 'data');
    });

    test(`what cannot be delivered in time is answered with the reason (MQTT ${version})`, async () => {
      await using scene = await Scene.open(broker, {
        clientId: `late-${suffix}`,
        version,
        flags: ['--unknown-directive-lifetime=1s'],
      });
      const { operator } = scene;
      await operator.until((heard) => heard.raw.includes('"echo"'), 'the echo worker');
      const past = new Date(Date.now() - 1000).toISOString();
      const ids = {
        unknown: await operator.send('nobody', '1'),
        ttl: await operator.send('nobody', '1', { metadata: { ttl: '0.2' } }),
        ttlNumber: await operator.send('nobody', '1', { metadata: { ttl: 0 } }),
        expires: await operator.send('nobody', '1', {
          metadata: { expires: new Date(Date.now() + 300).toISOString() },
        }),
        past: await operator.send('echo', '1', { metadata: { expires: past } }),
      };
      assert.equal(codeOf(await operator.answerTo(ids.unknown), 'nobody'), 'unroutable');
      assert.equal(codeOf(await operator.answerTo(ids.ttl), 'nobody'), 'expired');
      assert.equal(codeOf(await operator.answerTo(ids.ttlNumber), 'nobody'), 'expired');
      assert.equal(codeOf(await operator.answerTo(ids.expires), 'nobody'), 'expired');
      assert.equal(codeOf(await operator.answerTo(ids.past), 'echo'), 'expired');
      const inTime = await operator.send('echo', '1', { metadata: { ttl: '60' } });
      assert.equal(contentOf(await operator.answerTo(inTime)), '1');
      assertEnvelopes(operator.everything, 'data');
    });

    test(`malformed messages of every kind are acknowledged, and the next good one works (MQTT ${version})`, async () => {
      const clientId = `bad-${suffix}`;
      await using scene = await Scene.open(broker, {
        clientId,
        version,
        flags: ['--max-message-size=200KiB', '--allowed-directives=echo', '--allowed-directives=other'],
      });
      const { operator } = scene;
      const readable = new Map<string, string>();
      let count = 0;
      const send = async (topic: string, payload: string | Buffer): Promise<void> => {
        count += 1;
        await operator.publish(topic, payload);
      };
      /** The start of a message whose ids can be read: it has to be answered. */
      const head = (code = 'malformed', directive = 'echo'): string => {
        const id = operator.newId();
        readable.set(id, code);
        return `{"type":"data","message_id":"${id}","directive":"${directive}"`;
      };
      const unreadable = ['', ' ', 'no json', '{', '[]', '"text"', 'null', '42', '{}', '\ufeff{}', '{"type":"data"}'];
      for (const payload of unreadable) await send('data/in', payload);
      await send('data/in', Buffer.from([0xff, 0xfe, 0x00, 0x7b]));
      await send('data/in', '['.repeat(100_000));
      for (const directive of ['7', 'null', '""', '"a/b"', '"+"', '"é"', '"../x"', `"${'a'.repeat(65)}"`, '{}']) {
        await send(
          'data/in',
          `{"type":"data","message_id":"${operator.newId()}","directive":${directive},"content":1}`,
        );
      }
      for (const id of ['7', '{}', `"${'x'.repeat(300)}"`]) {
        await send('data/in', `{"type":"data","message_id":${id},"directive":"echo","content":1}`);
      }
      await send('data/in', `${head()},"metadata":[]}`);
      await send('data/in', `${head()},"metadata":"text"}`);
      await send('data/in', `${head()},"metadata":{"a":{}}}`);
      await send('data/in', `${head()},"metadata":{"a":["b"]}}`);
      await send('data/in', `${head()},"metadata":{"a":"${'x'.repeat(70_000)}"}}`);
      await send('data/in', `${head()},"version":"one"}`);
      await send('data/in', `${head()},"version":1.5}`);
      await send('data/in', `${head()},"sent":5}`);
      await send('data/in', `${head()},"response_to":{}}`);
      await send('data/in', `${head()},"content":01}`);
      await send('data/in', `${head()},"content":"a\nb"}`);
      await send('data/in', `${head()},"content":"\\x"}`);
      await send('data/in', `${head()},"content":1}}`);
      await send('data/in', `${head()},"content":NaN}`);
      await send('data/in', `${head()},"content":`);
      await send(
        'data/in',
        Buffer.concat([Buffer.from(`${head()},"content":"`), Buffer.from([0xc3, 0x28, 0x22, 0x7d])]),
      );
      await send('data/in', `${head()},"content":${'['.repeat(80)}${']'.repeat(80)}}`);
      await send('data/in', `${head().replace('"data"', '"event"')},"content":1}`);
      await send('data/in', `${head('too-large')},"content":"${'x'.repeat(300_000)}"}`);
      await send('data/in', `${head('unroutable', 'forbidden')},"content":1}`);
      const commands = ['{"command":"ping"}', '"ping"', 'null', '{"command":7}', '{"command":"ping","arguments":[]}'];
      for (const payload of ['', 'no json', '[]', '{}', '{"type":"data"}', Buffer.from([0xff])]) {
        await send('control/in', payload);
      }
      for (const content of commands.slice(1)) {
        await send('control/in', `{"type":"command","message_id":"${operator.newId()}","content":${content}}`);
      }
      await send('control/in', `{"type":"command","message_id":7,"content":${String(commands[0])}}`);
      await send('control/in', `{"type":"command","message_id":"${operator.newId()}","content":{"command":"PING"}}`);

      await acknowledged(clientId, count);
      for (const [id, code] of readable) {
        const answer = await operator.answerTo(id);
        assert.equal(codeOf(answer, code === 'unroutable' ? 'forbidden' : 'echo'), code);
      }
      await scene.ping();
      // Fields that are missing, unknown or of a later version are no fault.
      await operator.publish('data/in', '{"type":"data","directive":"echo","version":2,"more":[1],"content":"no id"}');
      await operator.until((heard) => heard.content === 'no id', 'the answer to a message without an id');
      const id = operator.newId();
      const tolerated = `{"type":"command","message_id":"${id}","version":2,"content":{"command":"ping","message":"","arguments":null},"more":1}`;
      await operator.publish('control/in', tolerated);
      assert.equal((await operator.answerTo(id)).content, 'pong');
      for (const content of ['{"a" : 1.0}', undefined]) {
        const answer = await operator.answerTo(await operator.send('echo', content));
        assert.equal(contentOf(answer), content ?? 'null');
      }
      for (const answered of readable.keys()) assert.equal(answersTo(scene, answered), 1);
      assertEnvelopes(operator.everything, 'data', 'event');
    });
  }

  test('an answer goes to the Response Topic with its Correlation Data where that is allowed, else to data/out', async () => {
    await using scene = await Scene.open(broker, {
      clientId: 'reply',
      flags: ['--response-topics=answers/+', '--unknown-directive-lifetime=1s'],
    });
    const { operator, yggd } = scene;
    await operator.client.subscribeAsync(['answers/#', 'elsewhere'], { qos: 1 });
    const ask = async (responseTopic: string, directive = 'echo'): Promise<Heard> => {
      const options = { properties: { responseTopic, correlationData: Buffer.from('order 66') } };
      return operator.answerTo(await operator.send(directive, '[1.0]', { options }));
    };
    const allowed = await ask('answers/a');
    assert.deepEqual([allowed.topic, allowed.correlation, contentOf(allowed)], ['answers/a', 'order 66', '[1.0]']);
    const error = await ask('answers/b', 'nobody');
    assert.deepEqual(
      [error.topic, error.correlation, codeOf(error, 'nobody')],
      ['answers/b', 'order 66', 'unroutable'],
    );
    const out = 'yggdrasil/reply/data/out';
    for (const topic of ['elsewhere', 'answers/a/b', 'yggdrasil/reply/data/in', 'yggdrasil/reply/other']) {
      const refused = await ask(topic);
      assert.deepEqual([refused.topic, refused.correlation, contentOf(refused)], [out, undefined, '[1.0]']);
      await yggd.line('data.attribute', ({ text }) => text?.includes('esponse') === true);
    }
    assertEnvelopes(operator.everything, 'data');
  });

  test('the expiry of MQTT 5 is heeded, also the time the message waited at the broker', async () => {
    await using scene = await Scene.open(broker, { clientId: 'expiry', prepare: () => Promise.resolve() });
    const { operator } = scene;
    const options = { properties: { messageExpiryInterval: 1 } };
    assert.equal(codeOf(await operator.answerTo(await operator.send('nobody', '1', { options })), 'nobody'), 'expired');
  });

  test('a worker may answer with bytes that are no JSON, with nothing, several times, or by itself', async () => {
    await using scene = await Scene.open(broker, {
      clientId: 'replies',
      prepare: async (home) => {
        await home.addRun('bytes-worker', ['--handler=bytes'], ['/usr/bin/printf', '\\377\\000not json']);
        await home.addRun('nothing-worker', ['--handler=nothing'], ['/bin/true']);
        await home.addRun('failing-worker', ['--handler=failing'], ['/bin/sh', '-c', 'echo oh no >&2; exit 3']);
        await home.addSdkWorker(
          'many-worker',
          "await serve({ handler: 'many' }, () => [jsonReply(1), { ...jsonReply(2), directive: 'other' }]);",
        );
      },
      directives: ['bytes', 'nothing', 'failing', 'many'],
    });
    const { operator } = scene;
    const bytes = await operator.answerTo(await operator.send('bytes', '1'));
    assert.deepEqual(Buffer.from(String(bytes.content), 'base64'), Buffer.from('\xff\0not json', 'latin1'));
    assert.equal(bytes.metadata?.['content-encoding'], 'base64');
    assert.equal(contentOf(await operator.answerTo(await operator.send('nothing', '1'))), 'null');
    const failed = await operator.answerTo(await operator.send('failing', '1'));
    assert.deepEqual([failed.metadata?.['exit-code'], failed.metadata?.['stderr']], ['3', 'oh no']);
    const id = await operator.send('many', '1');
    const second = await operator.until(
      (heard) => heard.response_to === id && heard.content === 2,
      'the second answer',
    );
    assert.equal(second.directive, 'other');
    assert.equal((await operator.answerTo(id)).content, 1);
    assertEnvelopes(operator.everything, 'data');
  });

  test('detached content is fetched for the worker, and an answer to a URL is posted', async () => {
    const large = JSON.stringify({ a: 'x'.repeat(200_000) });
    let turns = 0;
    await using server = await startServer(({ url, method }, response) => {
      if (method === 'POST') response.end();
      else if (url === '/large') response.end(large);
      else if (url === '/empty') response.end();
      else if (url === '/later')
        response.writeHead((turns += 1) === 1 ? 503 : 200, { 'retry-after': '0' }).end('"later"');
      else response.writeHead(404).end('"never"');
    });
    await using scene = await Scene.open(broker, {
      clientId: 'detached',
      flags: [`--content-hosts=${server.origin}`],
      prepare: async (home) => {
        await home.addRun('fetch-worker', ['--handler=fetch', '--detached-content'], ['/bin/cat']);
        await home.addSdkWorker(
          'post-worker',
          "await serve({ handler: 'post' }, (message) => ({ content: ' {\"n\":1.0} ', metadata: { 'x-kind': 'test', host: 'evil', 'x-bad': 'a\\r\\nb' }, directive: message.json() }));",
        );
      },
      directives: ['fetch', 'post'],
    });
    const { operator } = scene;
    const fetched = async (path: string, metadata = {}): Promise<Heard> =>
      operator.answerTo(await operator.send('fetch', JSON.stringify(`${server.origin}${path}`), { metadata }));
    const digest = (text: string): object => ({
      'content-digest': `sha-256:${createHash('sha256').update(text).digest('hex')}`,
    });
    assert.ok(contentOf(await fetched('/large', digest(large))) === large);
    assert.equal(contentOf(await fetched('/empty')), 'null');
    assert.equal(contentOf(await fetched('/later')), '"later"');
    assert.equal(codeOf(await fetched('/gone'), 'fetch'), 'fetch-failed');
    assert.equal(codeOf(await fetched('/large', digest('another')), 'fetch'), 'digest-mismatch');
    const elsewhere = await operator.answerTo(await operator.send('fetch', '"http://169.254.169.254/latest"'));
    assert.equal(codeOf(elsewhere, 'fetch'), 'fetch-failed');
    const noUrl = await operator.answerTo(await operator.send('fetch', '{"no":"url"}'));
    assert.match(codeOf(noUrl, 'fetch') ?? '', /^(malformed|fetch-failed)$/);
    assert.match(String(server.requests[0]?.headers['user-agent']), /^yggd\/\d/);

    const posted = server.seen.next(AbortSignal.timeout(30_000), ({ method }) => method === 'POST');
    await operator.send('post', JSON.stringify(`${server.origin}/take?a=1`));
    const { url, headers, body } = await posted;
    assert.deepEqual([url, body.toString(), headers['x-kind']], ['/take?a=1', ' {"n":1.0} ', 'test']);
    assert.deepEqual([headers['host'], headers['x-bad']], [new URL(server.origin).host, undefined]);
    assertEnvelopes(operator.everything, 'data');
  });
});
