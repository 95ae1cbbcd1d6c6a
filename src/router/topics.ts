/**
 * The topics of one agent, and which other topics a requester may name for its replies. Pure.
 */

/** The four topics of an agent (PROTOCOL section 1). */
export interface Topics {
  readonly controlIn: string;
  readonly controlOut: string;
  readonly dataIn: string;
  readonly dataOut: string;
  /** What stands before `/control/…` and `/data/…`. */
  readonly root: string;
}

/** The topics under `prefix` (which may hold `/`) of the agent `clientId`. */
export function topicsOf(prefix: string, clientId: string): Topics {
  const root = `${prefix}/${clientId}`;
  return {
    controlIn: `${root}/control/in`,
    controlOut: `${root}/control/out`,
    dataIn: `${root}/data/in`,
    dataOut: `${root}/data/out`,
    root,
  };
}

/** Whether `filter` matches `topic`, by MQTT 5 section 4.7; a filter that is not well-formed matches nothing. */
export function filterMatches(filter: string, topic: string): boolean {
  const wanted = filter.split('/');
  const levels = topic.split('/');
  // Topics that begin with $ are the broker's own: no leading wildcard reaches them [MQTT-4.7.2-1].
  if (topic.startsWith('$') && /^[+#]/.test(filter)) return false;
  for (const [index, level] of wanted.entries()) {
    if (level === '#') return index === wanted.length - 1;
    const isMatch = level === '+' ? index < levels.length : isPlain(level) && level === levels[index];
    if (!isMatch) return false;
  }
  return wanted.length === levels.length;
}

function isPlain(level: string): boolean {
  return !/[+#]/.test(level);
}

/** The longest topic MQTT can carry, in bytes of UTF-8. */
const MAX_TOPIC_BYTES = 65_535;

/** Whether a message may be published on `topic`: not empty, no wildcard, no NUL, not too long. */
export function isTopicName(topic: string): boolean {
  return topic !== '' && !/[+#\0]/.test(topic) && Buffer.byteLength(topic) <= MAX_TOPIC_BYTES;
}

/**
 * Whether replies may go to `topic` (CONTRACT section 3). `filters` are those of the setting `response-topics`;
 * undefined: everything below the agent's own root. The agent's `in` topics never: it would answer itself.
 */
export function isResponseTopicAllowed(topics: Topics, filters: readonly string[] | undefined, topic: string): boolean {
  if (!isTopicName(topic) || topic === topics.controlIn || topic === topics.dataIn) return false;
  if (filters === undefined) return topic.startsWith(`${topics.root}/`);
  return filters.some((filter) => filterMatches(filter, topic));
}
