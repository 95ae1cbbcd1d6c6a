/** The JSON Schemas of protocol/ say what the router really sends, and what it takes. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import { decodeCommand, decodeData } from '../../../src/message/index.js';
import { instructionOf } from '../../../src/router/commands.js';
import { settle } from '../../support/clock.js';
import {
  commandMessage,
  CONTROL_IN,
  CONTROL_OUT,
  DATA_IN,
  DATA_OUT,
  dataMessage,
  openTestRouter,
  until,
} from '../../support/router.js';

async function schema(name: string): Promise<ValidateFunction> {
  const url = new URL(`../../../protocol/${name}.schema.json`, import.meta.url);
  const ajv = new Ajv2020({ allErrors: true, strict: true, strictRequired: false, allowUnionTypes: true });
  formats.default(ajv);
  return ajv.compile(JSON.parse(await readFile(url, 'utf8')) as object);
}

function holds(validate: ValidateFunction, value: unknown): void {
  assert.ok(validate(value), JSON.stringify(validate.errors));
}

test('all that the router publishes is as its schema says, fields in the order of the protocol', async () => {
  let tags: Record<string, string> = {};
  await using t = await openTestRouter({ identity: { tags: () => tags } });
  t.worker('w', 'echo');
  await t.router.start();
  await t.connection.open();
  await settle();
  tags = { site: 'a' };
  t.router.identityChanged();
  t.connection.deliver(CONTROL_IN, commandMessage('c1', 'ping'));
  t.connection.deliver(DATA_IN, '{"type":"data","message_id":"m1","directive":"echo","metadata":7}');
  await t.result('{"a":1}', { messageId: 'r1', responseTo: 'm1' });
  await t.result('not json');
  await t.result('');
  t.connection.deliver(CONTROL_IN, commandMessage('c2', 'disconnect'));
  await until(() => t.connection.calls.includes('disconnect'));

  const status = await schema('connection-status');
  const event = await schema('event');
  const control = t.on(CONTROL_OUT);
  for (const message of control) holds(message['type'] === 'event' ? event : status, message);
  assert.deepEqual(control.map(({ type }) => type).toSorted(), [
    'connection-status',
    'connection-status',
    'connection-status',
    'event',
    'event',
  ]);
  holds(status, JSON.parse(t.connection.will?.payload.toString() ?? ''));
  const head = ['type', 'message_id', 'response_to', 'version', 'sent'];
  for (const message of control) assert.deepEqual(Object.keys(message), [...head, 'content']);

  const data = await schema('data');
  assert.equal(t.on(DATA_OUT).length, 4);
  for (const message of t.on(DATA_OUT)) {
    holds(data, message);
    assert.deepEqual(Object.keys(message), [...head, 'directive', 'metadata', 'content']);
  }
});

describe('what the schema allows the codec takes, and what it forbids the codec refuses', () => {
  test('for data', async () => {
    const validate = await schema('data');
    const valid: unknown[] = [
      JSON.parse(dataMessage('m').toString()),
      { type: 'data', directive: 'echo' },
      { type: 'data', directive: 'echo', metadata: null, message_id: null, version: 2, extra: [] },
      { type: 'data', directive: 'echo', metadata: { a: null, b: 1, c: true }, content: [1] },
    ];
    const invalid: unknown[] = [
      [],
      {},
      { type: 'data' },
      { type: 'command', directive: 'echo' },
      { type: 'data', directive: '' },
      { type: 'data', directive: 1 },
      { type: 'data', directive: 'echo', metadata: [] },
      { type: 'data', directive: 'echo', metadata: { a: {} } },
      { type: 'data', directive: 'echo', version: '1' },
      { type: 'data', directive: 'echo', sent: 1 },
      { type: 'data', directive: 'echo', message_id: 'x'.repeat(257) },
    ];
    for (const [values, kind] of [
      [valid, 'data'],
      [invalid, 'malformed'],
    ] as const) {
      for (const value of values) {
        assert.equal(validate(value), kind === 'data', JSON.stringify(value));
        assert.equal(decodeData(Buffer.from(JSON.stringify(value))).kind, kind, JSON.stringify(value));
      }
    }
  });

  test('for commands', async () => {
    const validate = await schema('command');
    const command = (content: unknown): unknown => ({ type: 'command', message_id: 'c', content });
    const valid = [
      command({ command: 'ping' }),
      command({ command: 'ping', arguments: null, message: '' }),
      command({ command: 'disconnect', arguments: {} }),
      command({ command: 'reconnect', arguments: { delay: '60' } }),
      command({ command: 'reconnect', arguments: { delay: 1.5 } }),
      command({ command: 'reconnect' }),
      command({ command: 'cancel', arguments: { directive: 'a-b', messageID: 'x' } }),
    ];
    const invalid = [
      {},
      { type: 'data', content: { command: 'ping' } },
      command('ping'),
      command({}),
      command({ command: '' }),
      command({ command: 'ping', arguments: [] }),
      command({ command: 'reconnect', arguments: { delay: 'soon' } }),
      command({ command: 'reconnect', arguments: { delay: -1 } }),
      command({ command: 'cancel' }),
      command({ command: 'cancel', arguments: { directive: 'a/b', messageID: 'x' } }),
      command({ command: 'cancel', arguments: { directive: 'a' } }),
    ];
    const isTaken = (value: unknown): boolean => {
      const decoded = decodeCommand(Buffer.from(JSON.stringify(value)));
      return decoded.kind === 'command' && instructionOf(decoded.envelope).kind !== 'refused';
    };
    for (const [values, expected] of [
      [valid, true],
      [invalid, false],
    ] as const) {
      for (const value of values) {
        assert.equal(validate(value), expected, JSON.stringify(value));
        assert.equal(isTaken(value), expected, JSON.stringify(value));
      }
    }
  });
});
