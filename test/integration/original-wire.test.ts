/**
 * Envelopes as the servers of the original write them (cloud-connector in Go, Foreman's proxy in Ruby, developers'
 * scripts in Python), at the real router; and what these servers insist on in ours.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { InboundRecord } from '../../src/message/index.js';
import { instructionOf } from '../../src/router/commands.js';
import { decodeCommand } from '../../src/message/index.js';
import { settle } from '../support/clock.js';
import { CONTROL_OUT, DATA_IN, openTestRouter, until } from '../support/router.js';

const ID = '3f0a8c1e-55d2-4b7b-9a49-0d9f6f6f2f11';

interface Case {
  readonly from: string;
  readonly payload: string;
  readonly directive: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** Bytes. */
  readonly content: string;
}

const cases: readonly Case[] = [
  {
    from: 'cloud-connector for a playbook (nanoseconds, a zone, < > & escaped as Go does)',
    payload: `{"type":"data","message_id":"${ID}","response_to":"","version":1,"sent":"2026-11-21T04:50:11.123456789-05:00","directive":"rhc-worker-playbook","metadata":{"crc_dispatcher_correlation_id":"e957564e","response_interval":"600","return_url":"https://cert.example.com/upload?a=1\\u0026b=\\u003c2\\u003e"},"content":"https://cert.example.com/run?x=1\\u0026y=2"}`,
    directive: 'rhc-worker-playbook',
    metadata: {
      crc_dispatcher_correlation_id: 'e957564e',
      response_interval: '600',
      return_url: 'https://cert.example.com/upload?a=1&b=<2>',
    },
    content: '"https://cert.example.com/run?x=1\\u0026y=2"',
  },
  {
    from: 'cloud-connector without metadata',
    payload: `{"type":"data","message_id":"${ID}","response_to":"","version":1,"sent":"2026-11-21T04:50:11Z","directive":"catalog","metadata":null,"content":{"href":"https://example.com","input":[1,2]}}`,
    directive: 'catalog',
    metadata: {},
    content: '{"href":"https://example.com","input":[1,2]}',
  },
  {
    from: 'Foreman’s proxy, to start (no response_to, content before metadata, nulls and numbers in metadata)',
    payload: `{"type":"data","message_id":"${ID}","version":1,"sent":"2026-11-21T05:50:11+01:00","directive":"foreman","content":"https://proxy.example.com:9090/ssh/jobs/5b1c","metadata":{"event":"start","version":"1","job_uuid":"5b1c","username":"0c1d","password":"b2e9","return_url":"https://proxy.example.com:9090/ssh/jobs/5b1c/update","signature":"MEUCIQ==","effective_user":null,"time_to_pickup":3600,"with_mqtt":true}}`,
    directive: 'foreman',
    metadata: {
      event: 'start',
      version: '1',
      job_uuid: '5b1c',
      username: '0c1d',
      password: 'b2e9',
      return_url: 'https://proxy.example.com:9090/ssh/jobs/5b1c/update',
      signature: 'MEUCIQ==',
      effective_user: '',
      time_to_pickup: '3600',
      with_mqtt: 'true',
    },
    content: '"https://proxy.example.com:9090/ssh/jobs/5b1c"',
  },
  {
    from: 'an older Foreman’s proxy, to cancel (no content)',
    payload: `{"type":"data","message_id":"${ID}","version":1,"sent":"2026-11-21T05:50:11+01:00","directive":"foreman","metadata":{"event":"cancel","job_uuid":"5b1c"}}`,
    directive: 'foreman',
    metadata: { event: 'cancel', job_uuid: '5b1c' },
    content: '',
  },
  {
    from: 'a script in Python (blanks, \\u escapes, microseconds without a zone)',
    payload: `{"type": "data", "message_id": "${ID}", "version": 1, "sent": "2026-11-21T04:50:11.123456", "directive": "rhc-worker-script", "content": "http://192.0.2.1:8000/data/example_bash.yml", "metadata": {"correlation_id": "00000000-0000-0000-0000-000000000000", "return_url": "http://192.0.2.1:8000/api/ingress/v1/upload", "return_content_type": "application/vnd.redhat.tasks.filename+tgz", "who": "J\\u00fcrgen"}}`,
    directive: 'rhc-worker-script',
    metadata: {
      correlation_id: '00000000-0000-0000-0000-000000000000',
      return_url: 'http://192.0.2.1:8000/api/ingress/v1/upload',
      return_content_type: 'application/vnd.redhat.tasks.filename+tgz',
      who: 'Jürgen',
    },
    content: '"http://192.0.2.1:8000/data/example_bash.yml"',
  },
  {
    from: 'a fleet manager that sends workloads as objects',
    payload: `{"type":"data","message_id":"${ID}","response_to":"","version":1,"sent":"0001-01-01T00:00:00Z","directive":"device","metadata":{},"content":{"configuration":{"heartbeat":{"period_seconds":60}},"device_id":"edge","workloads":[]}}`,
    directive: 'device',
    metadata: {},
    content: '{"configuration":{"heartbeat":{"period_seconds":60}},"device_id":"edge","workloads":[]}',
  },
];

describe('data of the original’s servers', () => {
  for (const { from, payload, directive, metadata, content } of cases) {
    test(`is taken as it stands: ${from}`, async () => {
      await using t = await openTestRouter();
      t.worker('w', directive);
      await t.router.start();
      await t.connection.open();
      t.connection.deliver(DATA_IN, payload);
      await until(() => t.received.length > 0 || t.results().length > 0);
      const [key] = t.received;
      assert.ok(key !== undefined, JSON.stringify(t.log.lines));
      const record: InboundRecord | undefined = t.store.inbound(key);
      assert.ok(record?.content.kind === 'inline');
      assert.equal(record.messageId, ID);
      assert.equal(record.directive, directive);
      assert.deepEqual({ ...record.metadata }, metadata);
      assert.equal(record.content.bytes.toString(), content);
    });
  }
});

describe('commands of the original’s servers', () => {
  const command = (content: string): unknown => {
    const payload = `{"type":"command","message_id":"${ID}","version":1,"sent":"2026-11-21T04:50:11.123456789+00:00","content":${content}}`;
    const decoded = decodeCommand(Buffer.from(payload));
    assert.ok(decoded.kind === 'command');
    return instructionOf(decoded.envelope);
  };

  test('cloud-connector’s have null arguments, delays as text and an empty message', () => {
    assert.deepEqual(command('{"command":"ping","arguments":null,"message":""}'), { kind: 'ping' });
    assert.deepEqual(command('{"command":"disconnect","arguments":null,"message":"bye"}'), { kind: 'disconnect' });
    assert.deepEqual(command('{"command":"reconnect","arguments":{"delay":"60"},"message":""}'), {
      kind: 'reconnect',
      delay: 60_000,
    });
  });

  test('those of the original’s own tool have empty arguments, or an id to cancel', () => {
    assert.deepEqual(command('{"command":"ping","arguments":{}}'), { kind: 'ping' });
    assert.deepEqual(command(`{"command":"cancel","arguments":{"directive":"rhc-worker","messageID":"${ID}"}}`), {
      kind: 'cancel',
      directive: 'rhc_worker',
      messageId: ID,
    });
  });
});

/** What Go's time.Time takes from JSON. */
const GO_TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$/;

interface Status {
  readonly message_id: string;
  readonly sent: string;
  readonly content: {
    readonly canonical_facts: Record<string, unknown>;
    readonly dispatchers: Record<string, Record<string, string>>;
    readonly state: string;
    readonly tags?: Record<string, string>;
    readonly client_name: string;
    readonly client_version: string;
  };
}

test('a status is such that cloud-connector neither panics at it nor takes it for old', async () => {
  await using t = await openTestRouter({ identity: { tags: () => ({ site: '7', live: 'true' }) } });
  await t.router.start();
  await t.connection.open();
  await settle();
  t.worker('playbook-worker', 'rhc-worker-playbook');
  t.router.workersChanged();
  await settle();
  const will = JSON.parse(t.connection.will?.payload.toString() ?? '') as Status;
  const online = t.on(CONTROL_OUT) as unknown as readonly Status[];
  assert.ok(online.length >= 2);
  for (const { sent, content } of [will, ...online]) {
    assert.match(sent, GO_TIME);
    // Asserted to be maps and texts there, without a check.
    assert.equal(Object.prototype.toString.call(content.dispatchers), '[object Object]');
    for (const features of Object.values(content.dispatchers)) {
      assert.ok(Object.values(features).every((value) => typeof value === 'string'));
    }
    assert.ok(Object.values(content.tags ?? {}).every((value) => typeof value === 'string'));
    for (const fact of Object.values(content.canonical_facts)) {
      assert.ok(typeof fact === 'string' || Array.isArray(fact));
    }
    assert.equal(typeof content.client_name, 'string');
    assert.equal(typeof content.client_version, 'string');
  }
  assert.equal(will.content.state, 'offline');
  // Its inventory is told of a host whose dispatchers have this very name.
  assert.ok('rhc-worker-playbook' in (online.at(-1)?.content.dispatchers ?? {}));
  const times = online.map(({ sent }) => Date.parse(sent));
  assert.deepEqual(
    times,
    [...new Set(times)].toSorted((a, b) => a - b),
  );
  assert.equal(new Set(online.map((status) => status.message_id)).size, online.length);
});
