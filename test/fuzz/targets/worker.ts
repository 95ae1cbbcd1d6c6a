/** The worker SDK and the shipped workers: what the agent sends them, commands.toml, and requests to run one. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { AgentFrame, type BodyFrame } from '../../../protocol/generated/stream.js';
import { Event } from '../../../protocol/generated/yggdrasil.js';
import { environment } from '../../../src/cli/worker-run.js';
import { parseSocketAddress } from '../../../src/worker/address.js';
import { statusText } from '../../../src/worker/grpc.js';
import { dataFromReply, messageFromData, Refusal } from '../../../src/worker/message.js';
import { stderrLog } from '../../../src/worker/stderr-log.js';
import { parseCommands, selectCommand } from '../../../workers/command/commands.js';
import { EMPTY } from '../../support/fake-stream-agent.js';
import { feedWorker } from '../agent-stream.js';
import { byteExamples, hostileText, jsonObject, jsonText, mutated, textExamples } from '../corpus.js';
import { assertReason, caught, claim, target, type Target } from '../target.js';

const COMMANDS = `[commands.uptime]
run = ["/usr/bin/uptime", "--{what}"]
[commands.uptime.arguments.what]
choices = ["pretty", "since"]
default = "pretty"
[commands.ping]
run = ["/bin/ping", "-c", "{count}", "{host}"]
timeout = 5
[commands.ping.arguments]
count = { pattern = "[0-9]{1,2}" }
host = { pattern = "[a-z][a-z0-9.]*", max-length = 20 }
`;
const commands = parseCommands(COMMANDS);
claim(commands.kind === 'commands');

const data = { messageId: 'a', metadata: { a: 'b' }, content: Buffer.from('1'), responseTo: '', directive: 'echo' };
const welcome: AgentFrame = {
  ...EMPTY,
  welcome: {
    registrations: [{ registered: true, reason: '' }],
    window: { messages: 4, bytes: 1_000, bodies: 2 },
    token: Buffer.from('t'),
    maxResult: 1_000n,
    config: undefined,
  },
};
const deliveries: AgentFrame = {
  ...EMPTY,
  deliveries: [
    { tag: 1, priority: 5, data, body: undefined },
    { tag: 2, priority: 9, data: { ...data, messageId: 'b', content: Buffer.alloc(0) }, body: { size: 20n } },
  ],
};
const answers: AgentFrame = {
  ...EMPTY,
  settled: [1],
  accepted: [1],
  resultRefusals: [{ number: 1, tag: 1, passing: true, reason: 'full' }],
  cancels: [2],
  events: [{ name: Event.RECEIVED_DISCONNECT, detail: 'x', metadata: {} }],
  pings: [1],
};
const chunks: BodyFrame = {
  token: Buffer.alloc(0),
  chunks: [{ id: 2, offset: 0n, data: Buffer.alloc(20), last: true, aborted: false }],
  credits: [{ id: 1, bytes: 10n, stop: false }],
};

/** Frames as an agent may send them, well-formed and not, in any order. */
const small = fc.integer({ min: 0, max: 4 });
const bytes = fc.uint8Array({ maxLength: 30 }).map((each) => Buffer.from(each));
const agentFrame: fc.Arbitrary<AgentFrame> = fc.record({
  welcome: fc.option(fc.constant(welcome.welcome), { nil: undefined, freq: 20 }),
  deliveries: fc.array(
    fc.record({
      tag: small,
      priority: fc.integer({ min: 0, max: 11 }),
      data: fc.option(
        fc
          .tuple(hostileText(['a', 'b', ''], 50), bytes)
          .map(([messageId, content]) => ({ ...data, messageId, content })),
        { nil: undefined, freq: 20 },
      ),
      body: fc.option(fc.record({ size: fc.bigInt({ min: 0n, max: 1_100n }) }), { nil: undefined, freq: 2 }),
    }),
    { maxLength: 3 },
  ),
  settled: fc.array(small, { maxLength: 1 }),
  accepted: fc.array(small, { maxLength: 1 }),
  resultRefusals: fc.array(
    fc.record({
      number: small,
      tag: fc.option(small, { nil: undefined }),
      passing: fc.boolean(),
      reason: hostileText(['x'], 100),
    }),
    { maxLength: 2 },
  ),
  cancels: fc.array(small, { maxLength: 2 }),
  events: fc.constant([]),
  pings: fc.array(small, { maxLength: 2 }),
});
const bodyFrame: fc.Arbitrary<BodyFrame> = fc.record({
  token: bytes,
  chunks: fc.array(
    fc.record({
      id: small,
      offset: fc.bigInt({ min: 0n, max: 40n }),
      data: bytes,
      last: fc.boolean(),
      aborted: fc.boolean(),
    }),
    { maxLength: 3 },
  ),
  credits: fc.array(fc.record({ id: small, bytes: fc.bigInt({ min: 0n, max: 2n ** 63n }), stop: fc.boolean() }), {
    maxLength: 2,
  }),
});

export const workerTargets: readonly Target[] = [
  target('AgentFrame from the wire, and what it does to a worker', {
    inputs: mutated(
      [welcome, deliveries, answers].map((frame) => Buffer.from(AgentFrame.encode(frame).finish())),
      8_192,
    ),
    examples: byteExamples,
    share: 0.3,
    run: async (wire) => {
      const frame = caught(() => AgentFrame.decode(wire));
      // Bytes that are no frame end the call within grpc-js.
      if ('error' in frame) return undefined;
      await feedWorker([frame.value]);
      return await feedWorker([welcome, deliveries, chunks, frame.value, answers]);
    },
    judge: () => undefined,
  }),
  target('frames of an agent in any order', {
    inputs: fc.array(fc.oneof({ weight: 3, arbitrary: agentFrame }, { weight: 1, arbitrary: bodyFrame }), {
      maxLength: 8,
    }),
    examples: [[], [welcome], [welcome, welcome], [deliveries], [welcome, deliveries, chunks, answers]],
    share: 0.3,
    run: (frames) => feedWorker([welcome, ...frames]),
    judge: () => undefined,
  }),
  target('a message of the agent', {
    inputs: fc.tuple(mutated([Buffer.from('{"a":1}'), Buffer.from('"x"')], 8_192), hostileText(['9b1d'], 300)),
    examples: byteExamples.map((bytes): [Buffer, string] => [bytes, bytes.toString('latin1').slice(0, 300)]),
    run: ([content, messageId]) => {
      const data = { messageId, metadata: { a: 'b' }, content, responseTo: '', directive: 'echo' };
      const message = messageFromData(data);
      return { value: caught(() => message.json()), reply: dataFromReply({ content: message.content }, message, 0) };
    },
    judge: ({ value, reply }, [content, messageId]) => {
      claim(reply.content.equals(content));
      assert.equal(reply.responseTo, messageId);
      if ('error' in value) claim(value.error instanceof Refusal);
    },
  }),
  target('addresses of sockets and texts of statuses', {
    inputs: hostileText(['unix:/run/x/d.sock', 'unix:///x', '@name', 'unix-abstract:x', 'unix:@'], 8_192),
    examples: textExamples,
    run: (text) => ({ address: parseSocketAddress(text), status: statusText(text) }),
    judge: ({ address, status }) => {
      if (address.kind !== 'unknown') assert.match(address.target, /^unix:[/\0]/);
      claim(!/\p{Surrogate}/u.test(status) && status.length <= 1_000);
    },
  }),
  target('a line of a worker’s log', {
    inputs: fc.tuple(hostileText(['a text'], 8_192), hostileText(['a value'], 8_192)),
    examples: textExamples.map((text): [string, string] => [text, text]),
    run: ([text, value]) => {
      const lines: string[] = [];
      stderrLog('info', (line) => lines.push(line)).info('event', text, { value });
      return lines;
    },
    judge: (lines) => {
      assert.equal(lines.length, 1);
      assert.match(lines[0] ?? '', /^[^\r\n]*\n$/);
    },
  }),
  target('commands.toml', {
    inputs: hostileText([COMMANDS, '[commands.a]\nrun = ["x"]\n', '[commands."a b"]\nrun = []\n'], 8_192),
    examples: textExamples.filter((text) => text.length <= 16_384),
    share: 0.3,
    run: (text) => parseCommands(text),
    judge: (parsed) => {
      if (parsed.kind === 'invalid') assert.notEqual(parsed.problem, '');
      else for (const { run } of parsed.commands.values()) assert.match(run[0] ?? '', /^\//);
    },
  }),
  target('a request to the command worker', {
    inputs: fc.oneof(
      jsonObject({
        command: ['"uptime"', '"ping"', '"__proto__"', '"constructor"', '""'],
        arguments: [
          '{}',
          'null',
          '{"what":"since"}',
          '{"count":3,"host":"a.b"}',
          '{"count":"1; rm","host":"-x"}',
          '{"__proto__":"x"}',
        ],
      }),
      jsonText,
      hostileText(['x']).map((text) => JSON.stringify({ command: text, arguments: { [text]: text } })),
    ),
    examples: textExamples.map((text) =>
      JSON.stringify({ command: 'ping', arguments: { count: text, host: text, [text]: '' } }),
    ),
    run: (text) => selectCommand(commands.commands, JSON.parse(text)),
    judge: (selection) => {
      if (selection.kind === 'refused') {
        assertReason(selection.problem);
        return;
      }
      const line = [selection.file, ...selection.args].join(' ');
      assert.match(line, /^\/usr\/bin\/uptime --(pretty|since)$|^\/bin\/ping -c [0-9]{1,2} [a-z][a-z0-9.]{0,19}$/);
    },
  }),
  target('metadata as variables of a program', {
    inputs: fc.dictionary(hostileText(['a', 'Content-Type', '__proto__'], 200), hostileText(['x', 'a\0b'], 2_000), {
      maxKeys: 5,
    }),
    examples: textExamples.map((text) => ({ [text]: text, '': text })),
    run: (metadata) =>
      environment(
        {},
        messageFromData({ messageId: 'a', metadata, content: Buffer.from('{}'), responseTo: '', directive: 'echo' }),
      ),
    judge: (env) => {
      for (const [name, value] of Object.entries(env)) {
        assert.match(name, /^[A-Z0-9_]+$/);
        claim(!value.includes('\0'));
      }
    },
  }),
];
