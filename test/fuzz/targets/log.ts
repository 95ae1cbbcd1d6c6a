/** What stands in a line of the log, whatever was told: one line, printable, bounded, without secrets. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { AgentError } from '../../../src/errors.js';
import { createLog } from '../../../src/log/create-log.js';
import { withoutUserInfo } from '../../../src/log/redact.js';
import { hostileText, textExamples } from '../corpus.js';
import { claim, SECRET, target, type Target } from '../target.js';

const LONGEST_LINE = 512 * 1024;

const fields: fc.Arbitrary<Readonly<Record<string, unknown>>> = fc.dictionary(
  fc.oneof(
    fc.constantFrom('time', 'level', 'event', 'text', '__proto__', 'constructor', 'toJSON', 'messageId', 'error'),
    fc.string({ maxLength: 5 }),
  ),
  fc.oneof(
    hostileText(['a', 'mqtt://ann:pw@host'], 2_000),
    fc.jsonValue(),
    fc.constantFrom(1n, undefined, NaN, -0, new Date(NaN), new Map([['a', new Set([1])]]), Buffer.from('x')),
    hostileText(['x'], 500).map((text) => new AgentError('config.invalid', text, {}, { cause: new Error(text) })),
  ),
  { maxKeys: 4 },
);

const secrets: fc.Arbitrary<Readonly<Record<string, unknown>>> = fc.constantFrom(
  { password: SECRET },
  { 'x-Api-Key': { deep: SECRET } },
  { nested: [{ proxyCredentials: SECRET, token: [SECRET] }] },
  { url: `mqtts://ann:${SECRET}@host/x` },
  { error: new Error(`cannot reach wss://a:${SECRET}@h`, { cause: new Error(`http://${SECRET}@x/`) }) },
);

export const logTargets: readonly Target[] = [
  target('a line of the log', {
    inputs: fc.tuple(
      hostileText(['a message is refused: x', `cannot reach mqtt://ann:${SECRET}@host:1`]),
      fields,
      secrets,
      fc.constantFrom('json' as const, 'text' as const, 'journal' as const),
    ),
    examples: textExamples.flatMap((text) =>
      (['json', 'text', 'journal'] as const).map((format): [string, object, object, typeof format] => [
        text,
        { text, [text.slice(0, 100)]: text },
        {},
        format,
      ]),
    ) as [string, Readonly<Record<string, unknown>>, Readonly<Record<string, unknown>>, 'json' | 'text' | 'journal'][],
    share: 2,
    run: ([text, some, more, format]) => {
      const lines: string[] = [];
      const log = createLog({ level: 'trace', format, destination: { write: (line) => void lines.push(line) } });
      log.child(more).warn('event.id', text, some);
      return lines;
    },
    judge: (lines, [text, some]) => {
      assert.equal(lines.length, 1);
      const [line = ''] = lines;
      claim(line.length <= LONGEST_LINE, `a line of ${line.length} characters`);
      // eslint-disable-next-line no-control-regex -- control characters are what it looks for
      assert.doesNotMatch(line, /[\0-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]|\n(?!$)/);
      // What is edited may have lost the mark by which a secret is known.
      const isMarked = text.includes(SECRET) || fc.stringify(some).includes(SECRET);
      if (!isMarked) claim(!line.includes(SECRET), line.slice(0, 300));
    },
  }),
  target('withoutUserInfo', {
    inputs: fc.oneof(
      hostileText(['see mqtt://ann:pw@host and wss://b:c@d/e', 'a@b', 'mailto:a@b']),
      fc
        .tuple(
          hostileText(['see ', '("', 'x'], 200),
          fc.constantFrom('mqtt', 'HTTPS', 'a+b.c-d', 'a'.repeat(100)),
          hostileText(['ann', ''], 100).map((user) => user.replace(/[\s/?#"'<>]/g, '')),
          hostileText(['host/x', ''], 200),
        )
        .map(([before, scheme, user, after]) => `${before} ${scheme}://${user}:${SECRET}@${after}`),
    ),
    examples: textExamples,
    share: 2,
    run: (text) => withoutUserInfo(text),
    judge: (clean, text) => claim(clean.length <= text.length && !clean.includes(SECRET)),
  }),
];
