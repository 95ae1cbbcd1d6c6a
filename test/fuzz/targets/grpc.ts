/** What workers send and what other programs answer over gRPC: the generated codecs, and the checks behind them. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { HealthCheckRequest, HealthCheckResponse } from '../../../protocol/generated/health.js';
import { BodyFrame, Refusal_Kind, WorkerFrame } from '../../../protocol/generated/stream.js';
import {
  Config,
  Data,
  Event,
  EventNotification,
  RegistrationRequest,
  RegistrationResponse,
} from '../../../protocol/generated/yggdrasil.js';
import { claimedPid, countFeature, featuresFrom, resultFromData } from '../../../src/dispatcher/codec.js';
import { Violation } from '../../../src/dispatcher/stream/violation.js';
import { framed } from '../../../src/grpc/index.js';
import { FrameSplitter, OneMessage } from '../../../src/grpc/frame.js';
import { fuzzedStream, type FuzzedStream } from '../stream.js';
import { byteExamples, hostileText, mutated } from '../corpus.js';
import { assertReason, caught, claim, target, type Target } from '../target.js';

interface Codec<T> {
  encode(message: T): { finish(): Uint8Array };
  decode(bytes: Uint8Array): T;
}

const data: Data = {
  messageId: '9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d',
  metadata: { a: 'b', '': 'x' },
  content: Buffer.from('{"a":1}'),
  responseTo: 'r',
  directive: 'https://example.org/x',
};
const registration: RegistrationRequest = {
  handler: 'echo',
  pid: 4711n,
  detachedContent: true,
  features: { version: '1' },
};

/** Fields of any number and wire type, also ones the message does not have: the grammar of the wire, not of a message. */
const fields: fc.Arbitrary<Buffer> = fc
  .array(
    fc.tuple(
      fc.oneof(fc.integer({ min: 0, max: 8 }), fc.constantFrom(15, 16, 536_870_911)),
      fc.integer({ min: 0, max: 7 }),
      fc.uint8Array({ maxLength: 24 }),
      fc.constantFrom(0, 0, 0, 1, -1, 0x7fff_ffff),
    ),
    { maxLength: 8 },
  )
  .map((list) =>
    Buffer.concat(
      list.flatMap(([number, wire, body, lie]) => {
        const tag = varint(number * 8 + wire);
        return wire === 2 ? [tag, varint(Math.max(0, body.length + lie)), Buffer.from(body)] : [tag, Buffer.from(body)];
      }),
    ),
  );

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 0x80);
  return Buffer.from([...bytes, rest]);
}

/** Decoding either throws an Error, which grpc-js answers for, or gives what survives the way out and in. */
function wire<T extends object>(
  name: string,
  codec: Codec<T>,
  seed: T,
  check: (message: T) => void = () => undefined,
): Target {
  const seeds = [Buffer.from(codec.encode(seed).finish())];
  return target(`${name} from the wire`, {
    inputs: fc.oneof({ weight: 3, arbitrary: mutated(seeds) }, { weight: 2, arbitrary: fields }),
    examples: [...byteExamples, ...seeds],
    run: (bytes) => caught(() => codec.decode(bytes)),
    judge: (outcome, bytes) => {
      if ('error' in outcome) return;
      const again = codec.encode(outcome.value).finish();
      // Text that was not UTF-8 has become U+FFFD, three bytes for one.
      claim(again.length <= 3 * bytes.length + 16);
      assert.deepEqual(codec.decode(again), outcome.value);
      check(outcome.value);
    },
  });
}

const workerFrame: WorkerFrame = {
  hello: { registrations: [registration], window: { messages: 3, bytes: 100, bodies: 1 }, maxBody: 5n },
  completions: [{ tag: 1, results: [{ number: 1, data, body: { size: 3n } }] }],
  refusals: [{ tag: 2, kind: Refusal_Kind.UNAVAILABLE, reason: 'not now' }],
  results: [{ number: 2, data, body: undefined }],
  pongs: [{ number: 1, serving: true }],
};
const bodyFrame: BodyFrame = {
  token: Buffer.from('token'),
  chunks: [{ id: 1, offset: 0n, data: Buffer.from('abc'), last: true, aborted: false }],
  credits: [{ id: 1, bytes: 3n, stop: false }],
};

/** A stream with two deliveries in flight: what the worker sends takes effect, or breaks a rule that is named. */
function judgeStream(send: (stream: FuzzedStream) => void): void {
  const stream = fuzzedStream();
  try {
    send(stream);
  } catch (error) {
    claim(error instanceof Violation);
    assertReason(error.message);
  }
  stream.close();
  claim(stream.answers <= 2, 'each delivery ends once at most');
}

const LARGEST_MESSAGE = 40;

/** What each direction of a call makes of bytes that come in these pieces. */
function messagesFrom(pieces: readonly Buffer[]): { many: string[]; one: string | undefined; problems: unknown[] } {
  const splitter = new FrameSplitter(LARGEST_MESSAGE);
  const single = new OneMessage(LARGEST_MESSAGE);
  const many: string[] = [];
  const problems: unknown[] = [undefined, undefined];
  for (const piece of pieces) {
    // Nothing comes behind a problem.
    problems[0] ??= splitter.push(piece, (message) => many.push(message.toString('latin1')));
    problems[1] ??= single.push(piece);
  }
  return { many, one: problems[1] === undefined ? single.message?.toString('latin1') : undefined, problems };
}

const calls = ['', 'a', 'x'.repeat(LARGEST_MESSAGE)].map((text) => framed(Buffer.from(text)));

export const grpcTargets: readonly Target[] = [
  target('messages in the frames of gRPC', {
    inputs: fc.tuple(mutated([...calls, Buffer.concat(calls)], 400), fc.array(fc.nat(60), { maxLength: 20 })),
    run: ([bytes, sizes]) => {
      const pieces: Buffer[] = [];
      let at = 0;
      for (const size of sizes) pieces.push(bytes.subarray(at, (at += size)));
      return messagesFrom([...pieces, bytes.subarray(at)]);
    },
    judge: (came, [bytes]) => {
      const { many, one, problems } = came;
      assert.deepEqual(came, messagesFrom([bytes]), 'it matters where the bytes are cut');
      for (const message of many) claim(message.length <= LARGEST_MESSAGE);
      if (one !== undefined) assert.deepEqual(many, [one]);
      else claim(problems[1] !== undefined || many.length === 0);
      const whole = Buffer.concat(many.map((message) => framed(Buffer.from(message, 'latin1'))));
      claim(bytes.subarray(0, whole.length).equals(whole), 'nothing is made up, and nothing left out');
    },
  }),
  wire('Data', Data, data, (message) => {
    const result = resultFromData(message, { resultSize: 1_000, metadataSize: 200 });
    if (result.kind === 'refused') assertReason(result.reason);
    else {
      assert.equal(Object.getPrototypeOf(result.metadata), null);
      claim(result.content.equals(message.content) && result.content.length <= 1_000);
      claim(result.messageId !== '' && result.messageId.length <= 256);
    }
  }),
  wire('RegistrationRequest', RegistrationRequest, registration, (message) => {
    const features = featuresFrom(message, 200);
    claim(features === undefined || Object.getPrototypeOf(features) === null);
    const count = features && countFeature(features, 'version');
    claim(count === undefined || (Number.isSafeInteger(count) && count >= 1));
    const pid = claimedPid(message);
    claim(pid === undefined || (Number.isSafeInteger(pid) && pid > 0));
  }),
  wire('WorkerFrame', WorkerFrame, workerFrame, (message) => judgeStream((stream) => stream.link.receive(message))),
  wire('BodyFrame', BodyFrame, bodyFrame, (message) =>
    judgeStream(({ bodies }) => {
      for (const credit of message.credits) bodies.outgoing.credit(credit);
      for (const chunk of message.chunks) bodies.incoming.chunk(chunk);
    }),
  ),
  wire('RegistrationResponse', RegistrationResponse, { registered: true, address: '/run/x' }),
  wire('EventNotification', EventNotification, { name: Event.RECEIVED_DISCONNECT, detail: 'x', metadata: { a: 'b' } }),
  wire('Config', Config, Config.decode(Buffer.from('0a01780a0179', 'hex'))),
  wire('HealthCheckRequest', HealthCheckRequest, { service: 'x' }),
  wire('HealthCheckResponse', HealthCheckResponse, { status: 1 }),
  target('resultFromData', {
    inputs: fc.record({
      messageId: hostileText(['a', ''], 400),
      responseTo: hostileText(['a', ''], 400),
      directive: hostileText(['echo', 'https://example.org/'], 9_000),
      metadata: fc.dictionary(hostileText(['Content-Type', '__proto__'], 100), hostileText(['x'], 300), { maxKeys: 4 }),
      content: fc.uint8Array({ maxLength: 100 }).map((each) => Buffer.from(each)),
    }),
    run: (message) => resultFromData(message, { resultSize: 90, metadataSize: 300 }),
    judge: (result) => {
      if (result.kind === 'refused') assertReason(result.reason);
      else {
        // eslint-disable-next-line no-control-regex -- control characters are what must not pass into logs and headers
        for (const text of [result.messageId, result.responseTo, result.directive]) claim(!/[\0-\x1f\x7f]/.test(text));
      }
    },
  }),
];
