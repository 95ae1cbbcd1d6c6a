/** Bytes ↔ envelopes: what is accepted, what is malformed, and what goes out. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  decodeCommand,
  decodeData,
  encodeConnectionStatus,
  encodeData,
  encodeDataInPieces,
  encodeCommand,
  encodeEvent,
  jsonContent,
  MAX_ID_LENGTH,
  metadataFrom,
  readableIds,
  withEntry,
  type ConnectionStatus,
  type DataEnvelope,
} from '../../../src/message/index.js';

const bytes = (text: string): Buffer => Buffer.from(text, 'utf8');
const UUID_V4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

function data(text: string | Buffer): DataEnvelope {
  const decoded = decodeData(typeof text === 'string' ? bytes(text) : text);
  if (decoded.kind === 'malformed') assert.fail(decoded.reason);
  return decoded.envelope;
}

function reason(text: string | Buffer): string {
  const decoded = decodeData(typeof text === 'string' ? bytes(text) : text);
  assert.equal(decoded.kind, 'malformed');
  return decoded.reason;
}

const envelope = (rest: string): string => `{"type":"data","message_id":"m-1","directive":"echo"${rest}}`;

describe('decodeData', () => {
  for (const content of [
    '"text"',
    '"caf\\u00e9 \\"quoted\\" \\n"',
    '12345678901234567890',
    '1.0',
    '{ "b" : 1, "a":  2 }',
    '[1, 2,\t3]',
    'null',
    'true',
    '{"__proto__":{"x":1}}',
    '""',
  ]) {
    test(`hands on the content ${content} as the bytes that came`, () => {
      assert.equal(data(envelope(`,"content": ${content} `)).content.toString(), content);
    });
  }

  test('reads every field', () => {
    const read = data(
      '{"type":"data","message_id":"m","response_to":"r","version":1,"sent":"2026-01-01T00:00:00Z","directive":"a-b","metadata":{"k":"v"},"content":1}',
    );
    assert.equal(read.messageId, 'm');
    assert.equal(read.responseTo, 'r');
    assert.equal(read.directive, 'a-b');
    assert.deepEqual({ ...read.metadata }, { k: 'v' });
  });

  test('gives zero bytes where there is no content field', () => {
    assert.equal(data(envelope('')).content.length, 0);
  });

  test('makes an id where there is none, or an empty one', () => {
    assert.match(data('{"type":"data","directive":"echo"}').messageId, UUID_V4);
    assert.match(data('{"type":"data","message_id":"","directive":"echo"}').messageId, UUID_V4);
    assert.match(data('{"type":"data","message_id":null,"directive":"echo"}').messageId, UUID_V4);
  });

  test('accepts unknown fields, version 2 and null where a field may be missing', () => {
    assert.equal(data(envelope(',"version":2,"extra":{"a":[]},"response_to":null,"metadata":null')).responseTo, '');
    assert.equal(data(envelope(',"version":null')).messageId, 'm-1');
  });

  test('turns null, numbers and booleans of the metadata into text, as they stood', () => {
    const { metadata } = data(
      envelope(',"metadata":{"a":null,"b":1.0,"c":true,"d":"x\\ny","e":12345678901234567890,"":"empty"}'),
    );
    assert.deepEqual(
      { ...metadata },
      { a: '', b: '1.0', c: 'true', d: 'x\ny', e: '12345678901234567890', '': 'empty' },
    );
  });

  test('keeps __proto__ in the metadata as a name like any other', () => {
    const { metadata } = data(envelope(',"metadata":{"__proto__":"x"}'));
    assert.equal(Object.getPrototypeOf(metadata), null);
    assert.deepEqual(Object.entries(metadata), [['__proto__', 'x']]);
  });

  test('says what is wrong with an envelope', () => {
    assert.match(reason(''), /not a JSON object: empty at byte 0/);
    assert.match(reason(Buffer.from([0x7b, 0xff])), /not UTF-8/);
    assert.match(reason('{"type":"command","directive":"echo"}'), /"type" must be "data"/);
    assert.match(reason('{"type":1,"directive":"echo"}'), /"type" must be text/);
    assert.match(reason('{"type":"data"}'), /"directive" must be a letter or digit/);
    assert.match(reason('{"type":"data","directive":"a/b"}'), /"directive" must be/);
    assert.match(reason(envelope(',"version":"1"')), /"version" must be an integer/);
    assert.match(reason(envelope(',"version":1.5')), /"version" must be an integer/);
    assert.match(reason(envelope(',"sent":5')), /"sent" must be text/);
    assert.match(reason(envelope(',"metadata":[]')), /"metadata" must be an object of text to text/);
    assert.match(reason(envelope(',"metadata":{"a":{}}')), /in "metadata", "a" must be text/);
    assert.match(reason(envelope(',"metadata":{"a":[1]}')), /in "metadata", "a" must be text/);
    assert.match(reason(envelope(`,"metadata":{"a":"${'x'.repeat(64 * 1024)}"}`)), /"metadata" is larger than 65536/);
    const long = 'x'.repeat(MAX_ID_LENGTH + 1);
    assert.match(reason(`{"type":"data","message_id":"${long}","directive":"e"}`), /"message_id" must be at most 256/);
    // What no answer could name, and what would write lines of its own into a log.
    assert.match(reason('{"type":"data","message_id":"a\\nb","directive":"e"}'), /"message_id" must be .* printable/);
    assert.match(reason(envelope(',"response_to":"\\u0000"')), /"response_to" must be .* printable/);
    assert.match(
      reason(envelope(',"metadata":{"a\\r\\n\\u202e":[]}')),
      /^in "metadata", "a\\r\\n\\u202e" must be text$/,
    );
  });

  test('holds the depth and the metadata to the limits it is given', () => {
    assert.equal(decodeData(bytes(envelope(',"content":[[1]]')), { maxDepth: 3, maxMetadata: 0 }).kind, 'data');
    assert.equal(decodeData(bytes(envelope(',"content":[[[1]]]')), { maxDepth: 3, maxMetadata: 0 }).kind, 'malformed');
    const metadata = bytes(envelope(',"metadata":{"a":"b"}'));
    assert.equal(decodeData(metadata, { maxDepth: 3, maxMetadata: 8 }).kind, 'malformed');
  });

  test('gives the ids of what is malformed, where they can be read', () => {
    const wrong = decodeData(bytes(envelope(',"metadata":7')));
    assert.deepEqual({ ...wrong, reason: '' }, { kind: 'malformed', reason: '', messageId: 'm-1', directive: 'echo' });
    const deep = decodeData(bytes(envelope(`,"content":${'['.repeat(100)}`)));
    assert.deepEqual({ ...deep, reason: '' }, { kind: 'malformed', reason: '', messageId: 'm-1', directive: 'echo' });
    const none = decodeData(bytes('{"type":"data","message_id":7,"directive":""}'));
    assert.deepEqual(
      { ...none, reason: '' },
      { kind: 'malformed', reason: '', messageId: undefined, directive: undefined },
    );
  });
});

test('the texts of an envelope go out as JSON, whatever stands in them', () => {
  for (const text of ['', 'plain ~ !#[]', 'a"b', 'a\\b', 'é', '\u007f', '\ud800', 'line\nbreak']) {
    const payload = encodeData({
      messageId: text,
      responseTo: text,
      sent: text,
      directive: text,
      metadata: metadataFrom([]),
      content: Buffer.from('1'),
    });
    const read = JSON.parse(payload.toString()) as Record<string, unknown>;
    const { message_id, response_to, sent, directive, metadata, content } = read;
    assert.deepEqual([message_id, response_to, sent, directive], [text, text, text, text]);
    assert.deepEqual([metadata, content], [{}, 1]);
  }
});

describe('readableIds', () => {
  test('reads the ids that stand before the cut of a payload too large to be taken', () => {
    assert.deepEqual(readableIds(bytes('{"message_id":"m","directive":"echo","content":"aaaa')), {
      messageId: 'm',
      directive: 'echo',
    });
  });

  test('reads nothing of ids that are cut, too long, or not UTF-8', () => {
    const none = { messageId: undefined, directive: undefined };
    assert.deepEqual(readableIds(bytes('{"message_id":"m')), none);
    assert.deepEqual(readableIds(bytes(`{"message_id":"${'x'.repeat(300)}"`)), none);
    const broken = Buffer.concat([bytes('{"message_id":"a'), Buffer.from([0xff]), bytes('","content":1}')]);
    assert.deepEqual(readableIds(broken), none);
  });
});

describe('decodeCommand', () => {
  const command = (content: string): ReturnType<typeof decodeCommand> =>
    decodeCommand(bytes(`{"type":"command","message_id":"c-1","content":${content}}`));

  for (const given of ['', ',"arguments":null', ',"arguments":{}', ',"message":""', ',"other":[1]']) {
    test(`reads ping with ${given === '' ? 'nothing else' : given}`, () => {
      const decoded = command(`{"command":"ping"${given}}`);
      assert.equal(decoded.kind, 'command');
      assert.equal(decoded.envelope.command, 'ping');
      assert.equal(decoded.envelope.messageId, 'c-1');
      assert.deepEqual(Object.keys(decoded.envelope.arguments), []);
    });
  }

  test('reads arguments of any kind, without a prototype', () => {
    const decoded = command('{"command":"reconnect","arguments":{"delay":60,"__proto__":{"x":1}}}');
    assert.equal(decoded.kind, 'command');
    assert.equal(Object.getPrototypeOf(decoded.envelope.arguments), null);
    assert.deepEqual(Object.keys(decoded.envelope.arguments), ['delay', '__proto__']);
    assert.equal(decoded.envelope.arguments['delay'], 60);
  });

  test('says what is wrong with a command', () => {
    const why = (decoded: ReturnType<typeof decodeCommand>): string =>
      decoded.kind === 'malformed' ? decoded.reason : 'none';
    assert.match(why(decodeCommand(bytes('nonsense'))), /not a JSON object/);
    assert.match(why(decodeCommand(bytes('{"type":"data"}'))), /"type" must be "command"/);
    assert.match(why(command('null')), /"content" must be an object/);
    assert.match(why(command('[]')), /"content" must be an object/);
    assert.match(why(command('"ping"')), /"content" must be an object/);
    assert.match(why(command('{}')), /"content.command" must be text/);
    assert.match(why(command('{"command":""}')), /"content.command" must be text/);
    assert.match(why(command('{"command":1}')), /"content.command" must be text/);
    assert.match(why(command('{"command":"x","arguments":[]}')), /"content.arguments" must be an object or null/);
    assert.match(why(command('{"__proto__":{"command":"ping"}}')), /"content.command" must be text/);
  });
});

describe('encodeData', () => {
  test('writes the fields in the order of the protocol and the content untouched', () => {
    const payload = encodeData({
      messageId: 'm',
      responseTo: 'r',
      sent: '2026-01-01T00:00:00Z',
      directive: 'echo',
      metadata: metadataFrom([['k', 'v"']]),
      content: bytes('{ "b":1.0 }'),
    });
    assert.equal(
      payload.toString(),
      '{"type":"data","message_id":"m","response_to":"r","version":1,"sent":"2026-01-01T00:00:00Z","directive":"echo","metadata":{"k":"v\\""},"content":{ "b":1.0 }}',
    );
  });
});

describe('encodeDataInPieces', () => {
  test('makes the same bytes, and of a large content no copy', () => {
    for (const size of [0, 1, 1021, 1022, 70_000]) {
      const content = Buffer.from(`"${'é'.repeat(size / 2)}"`);
      const data = { messageId: 'é', responseTo: '', sent: '', directive: 'd', metadata: metadataFrom([]), content };
      const payload = encodeDataInPieces(data);
      const isLarge = content.length >= 1024;
      assert.equal(Buffer.isBuffer(payload), !isLarge);
      if (!Buffer.isBuffer(payload)) assert.ok(payload.includes(content));
      assert.deepEqual(Buffer.isBuffer(payload) ? payload : Buffer.concat(payload), encodeData(data));
    }
  });
});

describe('jsonContent', () => {
  test('makes null of nothing', () => {
    assert.equal(jsonContent(Buffer.alloc(0), metadataFrom([])).content.toString(), 'null');
  });

  test('leaves valid JSON as it is, and the metadata too', () => {
    const metadata = metadataFrom([['a', 'b']]);
    const result = jsonContent(bytes(' 1.0 '), metadata);
    assert.equal(result.content.toString(), ' 1.0 ');
    assert.equal(result.metadata, metadata);
  });

  test('sends bytes that are not JSON in base64, and says so in the metadata', () => {
    const result = jsonContent(Buffer.from([0, 255, 1]), metadataFrom([['a', 'b']]));
    assert.equal(result.content.toString(), '"AP8B"');
    assert.deepEqual({ ...result.metadata }, { a: 'b', 'content-encoding': 'base64' });
  });
});

test('encodeCommand makes what decodeCommand reads', () => {
  for (const given of [null, { delay: 5 }]) {
    const decoded = decodeCommand(encodeCommand('id', '2026-01-01T00:00:00Z', 'reconnect', given));
    assert.ok(decoded.kind === 'command');
    const { messageId, command, arguments: args } = decoded.envelope;
    assert.deepEqual([messageId, command, { ...args }], ['id', 'reconnect', given ?? {}]);
  }
});

describe('encodeConnectionStatus and encodeEvent', () => {
  const status: ConnectionStatus = {
    canonicalFacts: {
      insights_id: '',
      machine_id: 'x',
      bios_uuid: '',
      subscription_manager_id: '',
      ip_addresses: [],
      mac_addresses: [],
      fqdn: 'h',
    },
    dispatchers: {},
    state: 'online',
    tags: {},
    clientName: 'yggd',
    clientVersion: '1',
  };

  test('the dispatchers are {} when there are none, and empty tags are left out', () => {
    assert.equal(
      encodeConnectionStatus('m', 's', status).toString(),
      '{"type":"connection-status","message_id":"m","response_to":"","version":1,"sent":"s","content":{"canonical_facts":{"insights_id":"","machine_id":"x","bios_uuid":"","subscription_manager_id":"","ip_addresses":[],"mac_addresses":[],"fqdn":"h"},"dispatchers":{},"state":"online","client_name":"yggd","client_version":"1"}}',
    );
  });

  test('tags are sent when there are some', () => {
    assert.match(encodeConnectionStatus('m', 's', { ...status, tags: { a: 'b' } }).toString(), /"tags":\{"a":"b"\}/);
  });

  test('an event is text that answers a command', () => {
    assert.equal(
      encodeEvent('m', 'c', 's', 'pong').toString(),
      '{"type":"event","message_id":"m","response_to":"c","version":1,"sent":"s","content":"pong"}',
    );
  });
});

describe('metadata', () => {
  test('one entry more is a copy that inherits nothing', () => {
    const before = metadataFrom([['a', 'b']]);
    const after = withEntry(before, '__proto__', 'x');
    assert.deepEqual(Object.keys(before), ['a']);
    assert.deepEqual(Object.keys(after), ['a', '__proto__']);
  });
});
