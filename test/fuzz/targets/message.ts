/** Envelopes from the broker: the JSON reader, data and commands, attributes, what becomes of a worker's bytes. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  decodeCommand,
  decodeData,
  DEFAULT_DECODE_LIMITS,
  encodeData,
  errorMetadata,
  isJson,
  isName,
  jsonContent,
  MAX_DEPTH,
  MAX_ID_LENGTH,
  metadataFrom,
  readableIds,
  readAttributes,
  readObject,
  replyMessageId,
  valueAt,
  type Metadata,
} from '../../../src/message/index.js';
import { instructionOf } from '../../../src/router/commands.js';
import { byteExamples, hostileText, HUGE, jsonObject, jsonText, mutated, pumped, textExamples } from '../corpus.js';
import { assertReason, claim, target, type Target } from '../target.js';

const DATA = {
  type: ['"data"', '"command"'],
  message_id: ['"9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"', '"a"', '""', '"a\\nb"', `"${'i'.repeat(257)}"`],
  response_to: ['""', '"b"', '"\\u0000"'],
  version: ['1', '2', '1.5'],
  sent: ['"2026-01-01T00:00:00Z"', '"x"'],
  directive: ['"echo"', '"package-manager"', '"../echo"', '"a/b"', '"é"', '"__proto__"'],
  metadata: [
    '{}',
    '{"a":"b"}',
    '{"__proto__":"x","constructor":"y"}',
    '{"a":1e400,"b":null}',
    '{"a\\r\\nb":[]}',
    'null',
  ],
  content: ['{}', '"x"', '12345678901234567890', '{"__proto__":1}', '[[[]]]', ' 1.0 ', 'null', '"\\ud800"'],
} as const;
const COMMAND = {
  type: ['"command"', '"data"'],
  message_id: ['"c"', '""'],
  version: ['1'],
  content: [
    '{"command":"ping"}',
    '{"command":"reconnect","arguments":{"delay":"5"}}',
    '{"command":"reconnect","arguments":{"delay":1e400}}',
    '{"command":"cancel","arguments":{"directive":"echo","messageID":"a"}}',
    '{"command":"__proto__","arguments":{"__proto__":{"delay":1}}}',
    '{"command":"\\u001b[2J\\r\\n"}',
    '{"command":7}',
  ],
} as const;

const bytesOf = (text: string): Buffer => Buffer.from(text, 'utf8');
const valid = [
  '{"type":"data","message_id":"a","response_to":"","version":1,"sent":"2026-01-01T00:00:00Z","directive":"echo","metadata":{"ttl":"5"},"content":{"a":[1,2.50,"x"]}}',
  '{"type":"command","message_id":"c","version":1,"content":{"command":"cancel","arguments":{"directive":"echo","messageID":"a"}}}',
  '{"a":[1,{"b":"\\u00e9\\n"},true,null,-1.5e+3],"a":2}',
].map(bytesOf);

const payloads = (object: fc.Arbitrary<string>): fc.Arbitrary<Buffer> =>
  fc.oneof(
    { weight: 8, arbitrary: object.map(bytesOf) },
    { weight: 4, arbitrary: object.map(bytesOf).chain((bytes) => mutated([bytes])) },
    { weight: 6, arbitrary: mutated(valid) },
    { weight: 1, arbitrary: pumped().map((text) => bytesOf(`{"type":"data","directive":"${text}"}`)) },
  );
const examples = [...byteExamples, ...valid, ...Object.values(HUGE)];

/** What the platform says of these bytes: the value, or undefined when they are no JSON. */
function platform(bytes: Uint8Array): { readonly value: unknown; readonly text: string } | undefined {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    return { value: JSON.parse(text), text };
  } catch {
    // Not UTF-8, or not JSON: the answer is no.
    return undefined;
  }
}

/** How deep a JSON text is nested. */
function depthOf(text: string): number {
  let [depth, deepest, isString] = [0, 0, false];
  for (let at = 0; at < text.length; at++) {
    const mark = text[at];
    if (isString && mark === '\\') at += 1;
    else if (mark === '"') isString = !isString;
    else if (isString) continue;
    else if (mark === '[' || mark === '{') deepest = Math.max(deepest, (depth += 1));
    else if (mark === ']' || mark === '}') depth -= 1;
  }
  return deepest;
}

const isPrintableId = (id: string): boolean =>
  // eslint-disable-next-line no-control-regex -- control characters are what it looks for
  id.length <= MAX_ID_LENGTH && !/[\u0000-\u001f\u007f]/.test(id);

function isPlainObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export const messageTargets: readonly Target[] = [
  target('isJson', {
    inputs: fc.oneof(jsonText.map(bytesOf), mutated(valid), payloads(jsonObject(DATA))),
    examples,
    share: 2,
    run: (bytes) => isJson(bytes),
    judge: (accepted, bytes) => {
      const known = platform(bytes);
      assert.equal(accepted, known !== undefined && depthOf(known.text) <= MAX_DEPTH);
    },
  }),
  target('readObject', {
    inputs: payloads(jsonObject(DATA)),
    examples,
    share: 2,
    run: (bytes) => readObject(bytes),
    judge: (read, bytes) => {
      claim(read.members.size <= bytes.length / 4 + 1);
      for (const span of read.members.values()) claim(span.start < span.end && span.end <= bytes.length);
      if (read.kind === 'fault') {
        assertReason(read.reason);
        claim(read.at >= 0 && read.at <= bytes.length);
        for (const span of read.members.values()) valueAt(bytes, span);
        const known = platform(bytes);
        claim(!isPlainObject(known?.value) || depthOf(known.text) > MAX_DEPTH);
        return;
      }
      const value = platform(bytes)?.value;
      claim(isPlainObject(value));
      assert.deepEqual(new Set(read.members.keys()), new Set(Object.keys(value)));
      if (bytes.length > 1_000_000) return;
      for (const [name, span] of read.members) {
        const own = Object.getOwnPropertyDescriptor(value, name)?.value as unknown;
        assert.deepEqual(valueAt(bytes, span), own);
      }
    },
  }),
  target('decodeData', {
    inputs: payloads(jsonObject(DATA)),
    examples,
    share: 3,
    run: (bytes) => decodeData(bytes),
    judge: (decoded, payload) => {
      if (decoded.kind === 'malformed') {
        assertReason(decoded.reason);
        return;
      }
      const { envelope } = decoded;
      const { content, metadata, directive, messageId, responseTo } = envelope;
      claim(isName(directive) && isPrintableId(messageId) && isPrintableId(responseTo) && messageId !== '');
      assert.equal(Object.getPrototypeOf(metadata), null);
      // The content is a part of the payload itself, the very bytes.
      const at = content.byteOffset - payload.byteOffset;
      claim(content.length === 0 || (content.buffer === payload.buffer && at >= 0));
      claim(content.length === 0 || isJson(content));
      if (payload.length > 1_000_000) return;
      const sent = { ...envelope, sent: '2026-01-01T00:00:00Z', content: content.length === 0 ? 'null' : content };
      const again = decodeData(encodeData({ ...sent, content: Buffer.from(sent.content) }), {
        ...DEFAULT_DECODE_LIMITS,
        maxMetadata: Infinity,
      });
      claim(again.kind === 'data');
      assert.deepEqual({ ...again.envelope, content: undefined }, { ...envelope, content: undefined });
      claim(content.length === 0 || again.envelope.content.equals(content));
    },
  }),
  target('decodeCommand and instructionOf', {
    inputs: payloads(jsonObject(COMMAND)),
    examples,
    share: 2,
    run: (bytes) => {
      const decoded = decodeCommand(bytes);
      return decoded.kind === 'malformed' ? decoded : { decoded, instruction: instructionOf(decoded.envelope) };
    },
    judge: (outcome) => {
      if ('kind' in outcome) {
        assertReason(outcome.reason);
        return;
      }
      const { decoded, instruction } = outcome;
      assert.equal(Object.getPrototypeOf(decoded.envelope.arguments), null);
      claim(isPrintableId(decoded.envelope.messageId));
      if (instruction.kind === 'refused') assertReason(instruction.reason);
      if (instruction.kind === 'reconnect') claim(instruction.delay >= 0 && instruction.delay <= 86_400_000);
      if (instruction.kind === 'cancel') claim(isName(instruction.directive));
    },
  }),
  target('readableIds of a payload that was cut', {
    inputs: fc.tuple(payloads(jsonObject(DATA)), fc.nat(2_000)).map(([bytes, end]) => bytes.subarray(0, end)),
    examples,
    run: (bytes) => readableIds(bytes),
    judge: (ids) => {
      for (const id of [ids.messageId, ids.directive]) {
        claim(id === undefined || (id !== '' && id.length <= MAX_ID_LENGTH && !id.includes('\uFFFD')));
      }
    },
  }),
  target('readAttributes', {
    inputs: fc
      .array(
        fc.tuple(
          fc.constantFrom('expires', 'ttl', 'priority', 'content-digest', '__proto__', 'x'),
          hostileText([
            '2026-01-01T00:00:00Z',
            '2026-01-01 00:00:00.123456+01:00',
            '60',
            '1.5',
            '9',
            `sha-256:${'a'.repeat(64)}`,
          ]),
        ),
        { maxLength: 5 },
      )
      .map(metadataFrom),
    examples: textExamples.map((text) =>
      metadataFrom(['expires', 'ttl', 'priority', 'content-digest'].map((n) => [n, text])),
    ),
    run: (metadata: Metadata) => readAttributes(metadata, 1_700_000_000_000),
    judge: ({ expiresAt, priority, digest, unreadable }) => {
      claim(expiresAt === undefined || Number.isFinite(expiresAt));
      claim(Number.isInteger(priority) && priority >= 0 && priority <= 9);
      claim(digest === undefined || /^[0-9a-f]{64}$/.test(digest));
      for (const name of unreadable) assertReason(name);
    },
  }),
  target('jsonContent of a worker’s bytes', {
    inputs: fc.oneof(
      mutated(valid),
      jsonText.map(bytesOf),
      fc.uint8Array({ maxLength: 40 }).map((each) => Buffer.from(each)),
    ),
    examples: [...byteExamples, ...Object.values(HUGE)],
    run: (bytes) => jsonContent(bytes, metadataFrom([['content-encoding', 'mine']])),
    judge: ({ content, metadata }, bytes) => {
      claim(isJson(content));
      claim(content.length <= bytes.length * 2 + 4);
      if (metadata['content-encoding'] === 'base64') {
        claim(Buffer.from(String(JSON.parse(content.toString('latin1'))), 'base64').equals(bytes));
      } else claim(bytes.length === 0 ? content.toString() === 'null' : content.equals(bytes));
    },
  }),
  target('errorMetadata and replyMessageId', {
    inputs: hostileText(['cannot', 'the worker answered INTERNAL: x']),
    examples: textExamples,
    run: (text) => ({ metadata: errorMetadata({ code: 'malformed', text }), id: replyMessageId(text, 1) }),
    judge: ({ metadata, id }) => {
      claim(JSON.stringify(metadata).length < 8_192);
      assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    },
  }),
];
