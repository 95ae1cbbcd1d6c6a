/** Topic matching agrees with a naive model, and the response-topic policy never lets the agent answer itself. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { filterMatches, isResponseTopicAllowed, topicsOf } from '../../src/router/index.js';

/** The specification read word for word, as a regular expression. */
function naive(filter: string, topic: string): boolean {
  const levels = filter.split('/');
  const isWellFormed = levels.every(
    (level, i) => !/[+#]/.test(level) || level === '+' || (level === '#' && i === levels.length - 1),
  );
  if (!isWellFormed) return false;
  if (topic.startsWith('$') && /^[+#]/.test(filter)) return false;
  const escaped = levels.map((level) =>
    level === '+' ? '[^/]*' : level === '#' ? '#' : level.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'),
  );
  let pattern = escaped.join('/');
  // "sport/#" also matches the singular "sport" [MQTT-4.7.1.2].
  if (pattern === '#') pattern = '.*';
  else if (pattern.endsWith('/#')) pattern = `${pattern.slice(0, -2)}(/.*)?`;
  return new RegExp(`^${pattern}$`, 's').test(topic);
}

const level = fc.constantFrom('a', 'b', '', '$', 'c.d', '$SYS');
const topic = fc.array(level, { minLength: 1, maxLength: 4 }).map((levels) => levels.join('/'));
const filter = fc
  .array(fc.oneof(level, fc.constantFrom('+', '#', '+', 'a+', '#b')), { minLength: 1, maxLength: 4 })
  .map((levels) => levels.join('/'));

test('a filter matches exactly the topics that the naive model says', () => {
  fc.assert(
    fc.property(filter, topic, (f, t) => {
      assert.equal(filterMatches(f, t), naive(f, t), `${f} against ${t}`);
    }),
    { numRuns: 2000 },
  );
});

test('no setting lets a reply go to a topic the agent listens to, or to one with a wildcard', () => {
  const topics = topicsOf('a/b', 'c');
  const wanted = fc.oneof(topic, filter, fc.constantFrom(topics.dataIn, topics.controlIn, 'a/b/c/x'));
  fc.assert(
    fc.property(fc.option(fc.array(filter), { nil: undefined }), wanted, (filters, t) => {
      if (!isResponseTopicAllowed(topics, filters, t)) return;
      assert.ok(t !== topics.dataIn && t !== topics.controlIn && !/[+#]/.test(t));
      assert.ok(filters === undefined ? t.startsWith('a/b/c/') : filters.some((f) => naive(f, t)));
    }),
    { numRuns: 500 },
  );
});
