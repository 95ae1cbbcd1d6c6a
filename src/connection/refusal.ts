/** What the broker's reason codes mean and what a person should do: refused connections and subscriptions, DISCONNECT. */
import { ReasonCodes } from 'mqtt';
import type { BrokerAddress } from './broker-address.js';
import { failure, type Failure } from './failure.js';

const PASSWORD = 'bad user name or password. Check `username` and `password-file`.';
const NOT_AUTHORISED = 'not authorised. Check the certificate or user, and the broker’s rules for this client id.';
const IDENTIFIER = 'it does not accept this client id. Set another `client-id`, or allow this one at the broker.';
const VERSION = 'it does not speak this version of MQTT. Set `mqtt-version` to auto.';
const UNAVAILABLE = 'it is not available at present. Nothing to do here: it is tried again.';
const BUSY = 'it is busy. Nothing to do here: it is tried again.';

/** Codes of CONNACK: 1–5 in MQTT 3.1.1, from 128 in MQTT 5. */
const CONNECT_REFUSALS = new Map<number, string>([
  [1, VERSION],
  [2, IDENTIFIER],
  [3, UNAVAILABLE],
  [4, PASSWORD],
  [5, NOT_AUTHORISED],
  [0x84, VERSION],
  [0x85, IDENTIFIER],
  [0x86, PASSWORD],
  [0x87, NOT_AUTHORISED],
  [0x88, UNAVAILABLE],
  [0x89, BUSY],
  [0x8a, 'this client is banned. Ask who runs the broker.'],
  [0x8c, 'it asks for another way to authenticate. Check the broker’s settings.'],
  [0x90, 'it does not accept the topic of our will. Check its rules for this client id, and `topic-prefix`.'],
  [0x95, 'our CONNECT is too large for it: the will. Make tags and facts smaller, or raise its maximum packet size.'],
  [0x97, 'a quota is used up. Ask who runs the broker.'],
  [0x9a, 'it keeps no retained messages. Set `mqtt-retain-status = false`.'],
  [0x9b, 'it does not accept QoS 1. This agent needs it.'],
  [0x9c, 'it wants this client at another broker. Change `broker`.'],
  [0x9d, 'it has moved. Change `broker`.'],
  [0x9f, 'too many connections in a short time. Nothing to do here: it is tried again.'],
]);

const SERVER_ENDS = new Map<number, string>([
  [0x81, 'it could not read what we sent. Please report this.'],
  [0x82, 'it says that we broke the protocol. Please report this.'],
  [0x87, 'this client is no longer authorised. Check the broker’s rules for it.'],
  [0x8b, 'it is shutting down. Nothing to do: the agent connects again.'],
  [0x8d, 'it did not hear from us for too long.'],
  [0x8e, 'another client connected with the same client id. Give each agent a `client-id` of its own.'],
  [0x93, 'we sent more at once than it takes. Please report this.'],
  [0x95, 'we sent a packet that is too large for it.'],
  [0x98, 'somebody who runs the broker ended it.'],
]);

/**
 * Ends that speak of the broker, or of who this client is: busy, shutting down, silent for too long,
 * taken over, too many messages, ended by a person, moved for now or for good, too many connections, connected too long.
 */
const DISMISSALS = new Set([0x89, 0x8b, 0x8d, 0x8e, 0x96, 0x98, 0x9c, 0x9d, 0x9f, 0xa0]);

const NAMES: Readonly<Record<number, string | undefined>> = ReasonCodes;

const VERSION_CODES = new Set([1, 0x84]);

function name(code: number): string {
  return `${NAMES[code] ?? 'unknown reason'} (${code})`;
}

/** The broker answered CONNECT with this code. */
export function connectRefusal(code: number, broker: BrokerAddress): Failure {
  const text = CONNECT_REFUSALS.get(code) ?? `${name(code)}. Check the broker’s log.`;
  const evidence = VERSION_CODES.has(code) ? 'refused' : 'answered';
  return failure('refused', broker, `${broker.text} refused the connection: ${text}`, undefined, evidence);
}

/** The broker did not let us subscribe. */
export function subscribeRefusal(topics: readonly string[], broker: BrokerAddress, cause: unknown): Failure {
  const which = topics.join(', ');
  const todo = 'Allow this client to read it in the broker’s rules, or check `topic-prefix` and `client-id`.';
  return failure('refused', broker, `${broker.text} refused the subscription to ${which}. ${todo}`, cause, 'answered');
}

/** The broker ended the connection with this reason (MQTT 5). */
export function serverEnd(code: number, broker: BrokerAddress): Failure {
  const text = SERVER_ENDS.get(code) ?? `${name(code)}.`;
  return failure(DISMISSALS.has(code) ? 'dismissed' : 'server', broker, `${broker.text} ended the connection: ${text}`);
}
