/** What a delivery carries besides its payload: topics, response topics, MQTT 5 properties. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { Gate } from '../../../src/router/admission.js';
import { DEFAULT_ROUTER_SETTINGS } from '../../../src/router/settings.js';
import { filterMatches, isResponseTopicAllowed, isTopicName, topicsOf } from '../../../src/router/topics.js';
import { systemClock } from '../../../src/time.js';
import { hostileText, jsonObject, mutated, textExamples } from '../corpus.js';
import { assertReason, claim, target, type Target } from '../target.js';

const TOPICS = topicsOf('yggdrasil', 'host-1');
const seeds = ['yggdrasil/host-1/reply/1', 'yggdrasil/host-1/data/in', '$SYS/x', 'a/+/c', 'a/#', '+/b', '#', ''];
const topic = hostileText(seeds, 70_000);

/** The rules of [MQTT-4.7], said as plainly as can be: level by level, from the front. */
function matches(filter: readonly string[], levels: readonly string[], isFirst = true): boolean {
  const [wanted, ...rest] = filter;
  if (wanted === undefined) return levels.length === 0;
  if (isFirst && /^[+#]/.test(wanted) && levels[0]?.startsWith('$') === true) return false;
  if (wanted === '#') return rest.length === 0;
  const [level, ...others] = levels;
  if (level === undefined || (wanted !== '+' && (wanted !== level || /[+#]/.test(wanted)))) return false;
  return matches(rest, others, false);
}

export const routerTargets: readonly Target[] = [
  target('filterMatches', {
    inputs: fc.oneof(
      fc.tuple(topic, topic),
      fc.tuple(
        fc
          .array(fc.constantFrom('a', 'b', '+', '#', '', '$x', 'a+'), { maxLength: 6 })
          .map((levels) => levels.join('/')),
        fc.array(fc.constantFrom('a', 'b', '', '$x'), { maxLength: 6 }).map((levels) => levels.join('/')),
      ),
    ),
    examples: textExamples.map((text): [string, string] => ['a/#', text]),
    share: 2,
    run: ([filter, name]) => filterMatches(filter, name),
    judge: (isMatch, [filter, name]) => {
      const [wanted, levels] = [filter.split('/'), name.split('/')];
      if (wanted.length > 500) return;
      assert.equal(isMatch, matches(wanted, levels.slice(0, 600)));
    },
  }),
  target('response topics', {
    inputs: topic,
    examples: textExamples,
    run: (name) => ({
      own: isResponseTopicAllowed(TOPICS, undefined, name),
      listed: isResponseTopicAllowed(TOPICS, ['a/+/c', 'yggdrasil/#'], name),
    }),
    judge: ({ own, listed }, name) => {
      const isSane = isTopicName(name) && name !== TOPICS.dataIn && name !== TOPICS.controlIn;
      assert.equal(own, isSane && name.startsWith('yggdrasil/host-1/'));
      assert.equal(listed, isSane && (matches('a/+/c'.split('/'), name.split('/')) || /^yggdrasil(\/|$)/.test(name)));
      if (own || listed) claim(!/[+#\0]/.test(name) && Buffer.byteLength(name) <= 65_535);
    },
  }),
  target('Gate.admit', {
    inputs: fc.record({
      payload: fc.oneof(
        jsonObject({
          type: ['"data"'],
          message_id: ['"a"', '""'],
          directive: ['"echo"', '"other"'],
          metadata: ['{"ttl":"1"}', '{"ttl":"9999999999"}', '{"priority":"10","expires":"x"}'],
          content: ['1'],
        }).map((text) => Buffer.from(text)),
        mutated([Buffer.from('{"type":"data","message_id":"a","directive":"echo"}')]),
      ),
      retain: fc.boolean(),
      truncatedFrom: fc.option(fc.nat(), { nil: undefined, freq: 10 }),
      messageExpiry: fc.option(fc.nat(0xffff_ffff), { nil: undefined }),
      responseTopic: fc.option(topic, { nil: undefined }),
      correlationData: fc.option(
        fc.uint8Array({ maxLength: 100 }).map((each) => Buffer.from(each)),
        { nil: undefined },
      ),
    }),
    share: 2,
    run: (delivery) =>
      new Gate({
        topics: TOPICS,
        settings: { ...DEFAULT_ROUTER_SETTINGS, allowedDirectives: ['echo'], rateLimit: 1_000 },
        clock: systemClock,
      }).admit({ topic: TOPICS.dataIn, qos: 1, ack: () => undefined, ...delivery }),
    judge: (admission, { responseTopic }) => {
      if (admission.kind === 'refused') assertReason(admission.failure.text);
      if (admission.kind === 'ignored') assertReason(admission.reason);
      if (admission.kind !== 'admitted') return;
      for (const warning of admission.warnings) assertReason(warning);
      const { expiresAt, replyTopic } = admission.message;
      claim(expiresAt === undefined || Number.isFinite(expiresAt));
      claim(
        replyTopic === undefined ||
          (replyTopic.kind === 'topic' && replyTopic.topic === responseTopic && isTopicName(replyTopic.topic)),
      );
    },
  }),
];
