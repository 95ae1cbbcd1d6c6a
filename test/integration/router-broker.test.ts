/** The router on a real connection to a real broker: what the in-memory one cannot prove. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Connection } from '../../src/connection/index.js';
import { metadataFrom } from '../../src/message/index.js';
import { MessageRouter, subscriptionsOf, type ConnectionPort } from '../../src/router/index.js';
import { testConnection, type TestConnection } from '../support/connection.js';
import { recordingLog } from '../support/log.js';
import { mosquittoMissing, startMosquitto, type Mosquitto } from '../support/mosquitto.js';
import { commandMessage, CONTROL_IN, CONTROL_OUT, DATA_IN, DATA_OUT, dataMessage, FACTS } from '../support/router.js';
import { openTestStore } from '../support/store.js';
import { systemClock } from '../../src/time.js';

const options = { skip: mosquittoMissing, timeout: 30_000 };
const forever = new AbortController().signal;

interface Agent extends AsyncDisposable {
  readonly router: MessageRouter;
  readonly connection: Connection;
  readonly store: Awaited<ReturnType<typeof openTestStore>>['store'];
}

async function agent(broker: Mosquitto, protocolVersion: '5' | '3.1.1'): Promise<Agent> {
  const opened = await openTestStore();
  let router: MessageRouter | undefined = undefined;
  const connection = new Connection({
    brokers: [broker.url],
    clientId: 'c1',
    protocolVersion,
    backoff: { first: 20, cap: 50 },
    subscriptions: subscriptionsOf('yggdrasil', 'c1'),
    will: () => router!.will(),
  });
  const port: ConnectionPort = connection;
  router = new MessageRouter({
    connection: () => port,
    store: opened.store,
    clientId: 'c1',
    topicPrefix: 'yggdrasil',
    identity: { facts: () => FACTS, tags: () => ({}), version: '1.2.3' },
    clock: systemClock,
    log: recordingLog(),
  });
  const made = router;
  return {
    router: made,
    connection,
    store: opened.store,
    [Symbol.asyncDispose]: async () => {
      await made.stop();
      await opened[Symbol.asyncDispose]();
    },
  };
}

/** Whoever sits at the other side of the broker. */
async function server(broker: Mosquitto): Promise<TestConnection> {
  const made = testConnection({ brokers: [broker.url], clientId: 'server', subscriptions: [CONTROL_OUT, DATA_OUT] });
  await made.connection.start();
  await made.up();
  return made;
}

const parsed = (payload: Buffer): Record<string, unknown> => JSON.parse(payload.toString()) as Record<string, unknown>;

for (const version of ['5', '3.1.1'] as const) {
  test(`MQTT ${version}: online, a message in, its result out, pong, offline`, options, async () => {
    await using broker = await startMosquitto();
    await using other = await server(broker);
    {
      await using local = await agent(broker, version);
      local.router.dataRecv.connect((key) => {
        const request = local.store.inbound(key);
        assert.ok(request?.content.kind === 'inline');
        const acceptance = local.store.acceptResult({
          worker: undefined,
          handlers: [],
          messageId: 'r1',
          responseTo: request.messageId,
          directive: 'echo',
          metadata: metadataFrom([]),
          content: request.content.bytes,
          arrivedAt: Date.now(),
        });
        assert.equal(acceptance.kind, 'accepted');
        void acceptance.durable.then(() => local.router.publish(acceptance.key));
      }, forever);
      await local.router.start();
      assert.equal((parsed((await other.message(1)).payload)['content'] as { state: string }).state, 'online');
      const content = '{ "big":12345678901234567890, "f":1.0 }';
      await other.connection.publish(DATA_IN, dataMessage('m1', { content }));
      const reply = await other.message(2);
      assert.equal(reply.topic, DATA_OUT);
      assert.ok(reply.payload.toString().endsWith(`"content":${content}}`));
      assert.equal(parsed(reply.payload)['response_to'], 'm1');
      await other.connection.publish(CONTROL_IN, commandMessage('c1', 'ping'));
      assert.equal(parsed((await other.message(3)).payload)['content'], 'pong');
    }
    assert.equal((parsed((await other.message(4)).payload)['content'] as { state: string }).state, 'offline');
  });

  test(
    `MQTT ${version}: reconnect takes effect once, and the session brings what was sent meanwhile`,
    options,
    async () => {
      await using broker = await startMosquitto();
      await using other = await server(broker);
      await using local = await agent(broker, version);
      await local.router.start();
      await local.connection.up.next(forever);
      const again = local.connection.up.next(forever);
      await other.connection.publish(CONTROL_IN, commandMessage('c1', 'reconnect', { delay: 0 }));
      const session = await again;
      assert.equal(session.sessionPresent, true);
      const received = local.router.dataRecv.next(forever);
      await other.connection.publish(DATA_IN, dataMessage('m1'));
      assert.equal(local.store.inbound(await received)?.messageId, 'm1');
      assert.equal(local.store.isCommandRecorded('c1'), true);
    },
  );
}
