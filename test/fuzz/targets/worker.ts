/** The worker SDK and the shipped workers: what the agent sends them, commands.toml, and requests to run one. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { environment } from '../../../src/cli/worker-run.js';
import { parseSocketAddress } from '../../../src/worker/address.js';
import { statusText } from '../../../src/worker/grpc.js';
import { dataFromReply, messageFromData, Refusal } from '../../../src/worker/message.js';
import { stderrLog } from '../../../src/worker/stderr-log.js';
import { parseCommands, selectCommand } from '../../../workers/command/commands.js';
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

export const workerTargets: readonly Target[] = [
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
