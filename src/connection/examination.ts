/**
 * The examination of a broker over MQTT: whether it lets us in, what it allows, how long it takes and how much it holds.
 * It has a client id and a topic of its own, so that the agent whose place it looks at never notices; it only listens
 * beside it, and says nothing where others listen but one empty message, which the protocol lets everybody send.
 */
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import type { IConnackPacket, IPublishPacket } from 'mqtt-packet';
import type { Millis } from '../time.js';
import { openFailure } from './attempt.js';
import type { BrokerAddress } from './broker-address.js';
import { Examiner, ExaminationError } from './examiner.js';
import { lateFailure, type Failure } from './failure.js';
import { contextOf, type TlsMaterial } from './tls-material.js';
import { openTransport } from './transport.js';
import type { ProtocolVersion, VersionPolicy } from './version-memory.js';

export interface ExaminationOptions {
  readonly broker: BrokerAddress;
  readonly proxy: string | undefined;
  readonly material: TlsMaterial;
  readonly policy: VersionPolicy;
  /** Of the examiner, never the agent's. */
  readonly clientId: string;
  readonly username: string | undefined;
  readonly password: string | undefined;
  /** What an agent subscribes to. */
  readonly inTopics: readonly string[];
  /** Where an agent publishes, and an empty message is nobody's harm. */
  readonly outTopic: string;
  /** Where the agent's status is retained. */
  readonly statusTopic: string;
  /** Nobody else's. */
  readonly ownTopic: string;
  /** How many messages may wait at the broker at once to see how many it sends, and how many it keeps. */
  readonly backlog: number;
}

/** What the broker said of itself; with MQTT 3.1.1 it says nothing. */
export interface BrokerLimits {
  readonly receiveMaximum: number | undefined;
  readonly maximumPacketSize: number | undefined;
  readonly topicAliasMaximum: number | undefined;
  readonly maximumQos: number | undefined;
  readonly isRetainAvailable: boolean;
  /** Seconds. */
  readonly serverKeepalive: number | undefined;
}

export interface MqttSeen {
  readonly version: ProtocolVersion;
  readonly took: Millis;
  readonly limits: BrokerLimits;
  readonly subscriptions: readonly { readonly topic: string; readonly code: number }[];
  /** The answer to an empty message on `outTopic`: the broker's code (with 3.1.1 always 0), or that it hung up. */
  readonly out: { readonly kind: 'answered'; readonly code: number } | { readonly kind: 'cut' };
  /** What is retained as the agent's status; undefined: nothing, or nothing we may read. */
  readonly status: Buffer | undefined;
  /** Of one question and its answer, in milliseconds. */
  readonly pings: readonly Millis[];
  /** Until the broker had answered both of two packets that were sent together, in milliseconds. */
  readonly pairs: { readonly of: 'messages' | 'pings'; readonly took: readonly Millis[] };
  /** What became of a message to `ownTopic`: it came back, was refused, came nowhere, or the broker hung up for it. */
  readonly echo: 'back' | 'refused' | 'silent' | 'cut';
  /** How much the broker sends to one that acknowledges nothing, and how many of all it kept. Where messages come back. */
  readonly backlog: { readonly sent: number; readonly inFlight: number; readonly kept: number } | undefined;
}

export type MqttLook =
  | { readonly kind: 'seen'; readonly seen: MqttSeen }
  /** `seen`: the broker let us in, and ended it later. */
  | { readonly kind: 'failed'; readonly failure: Failure; readonly version: ProtocolVersion };

const ROUNDS = 12;
/** How long to wait for what may never come. */
const QUIET: Millis = 700;
const REFUSED = 0x80;

/** Never rejects; with the end of the scope it fails. */
export async function examineBroker(options: ExaminationOptions, scope: AbortSignal): Promise<MqttLook> {
  const first = options.policy === '3.1.1' ? '3.1.1' : '5';
  const look = await examineWith(first, options, scope);
  if (look.kind === 'seen' || options.policy !== 'auto') return look;
  const { evidence } = look.failure;
  if (evidence !== 'refused' && evidence !== 'closed-early') return look;
  const older = await examineWith('3.1.1', options, scope);
  // Closed both times: what the newer version was told is the better explanation.
  return older.kind === 'seen' || evidence === 'refused' ? older : look;
}

async function examineWith(
  version: ProtocolVersion,
  options: ExaminationOptions,
  scope: AbortSignal,
): Promise<MqttLook> {
  try {
    const seen = await visit(version, options, scope, async (examiner, connack, took) => ({
      ...{ version, took },
      ...(await ask(examiner, options, limitsOf(connack), scope)),
    }));
    // On a connection of its own: there are brokers that hang up instead of refusing (mosquitto 2.0.11).
    const out = await visit(version, options, scope, async (examiner) => {
      const answers = await kept(publishAndPing(examiner, options.outTopic, Buffer.alloc(0)));
      return answers === undefined ? ({ kind: 'cut' } as const) : ({ kind: 'answered', code: answers } as const);
    });
    return { kind: 'seen', seen: { ...seen, out } };
  } catch (error) {
    return { kind: 'failed', failure: failureOf(error, options.broker, scope), version };
  }
}

/** One connection from CONNECT to DISCONNECT. */
async function visit<T>(
  version: ProtocolVersion,
  { broker, proxy, material, clientId, username, password }: ExaminationOptions,
  scope: AbortSignal,
  work: (examiner: Examiner, connack: IConnackPacket, took: Millis) => Promise<T>,
): Promise<T> {
  const secureContext = broker.isTls ? contextOf(material) : undefined;
  const stream = await openTransport({ broker, proxy, secureContext }, scope);
  const began = performance.now();
  const { examiner, connack } = await Examiner.open({ stream, broker, version, clientId, username, password }, scope);
  try {
    return await work(examiner, connack, performance.now() - began);
  } finally {
    examiner.close();
  }
}

/** The broker's code; rejects when it hangs up, be it after its acknowledgement. */
async function publishAndPing(examiner: Examiner, topic: string, payload: Buffer): Promise<number> {
  const [answer] = await examiner.publish(topic, [payload]);
  await examiner.ping();
  return answer?.code ?? 0;
}

/** What a promise resolves with, or undefined when the broker hung up on it. */
async function kept<T>(promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise;
  } catch (error) {
    if (error instanceof ExaminationError && error.failure.code !== 'timeout') return undefined;
    throw error;
  }
}

function failureOf(error: unknown, broker: BrokerAddress, scope: AbortSignal): Failure {
  if (error instanceof ExaminationError) return error.failure;
  if (scope.aborted) return lateFailure(broker);
  return openFailure(error, broker);
}

function limitsOf({ properties }: IConnackPacket): BrokerLimits {
  return {
    receiveMaximum: properties?.receiveMaximum,
    maximumPacketSize: properties?.maximumPacketSize,
    topicAliasMaximum: properties?.topicAliasMaximum,
    maximumQos: properties?.maximumQoS,
    isRetainAvailable: properties?.retainAvailable !== false,
    serverKeepalive: properties?.serverKeepAlive,
  };
}

type Asked = Omit<MqttSeen, 'version' | 'took' | 'out'>;

async function ask(
  examiner: Examiner,
  options: ExaminationOptions,
  limits: BrokerLimits,
  scope: AbortSignal,
): Promise<Asked> {
  const { inTopics, statusTopic, ownTopic } = options;
  const inbox = new Inbox(examiner, ownTopic, statusTopic);
  const subscriptions: { topic: string; code: number }[] = [];
  for (const topic of inTopics) subscriptions.push({ topic, code: await examiner.subscribe(topic, false) });
  await examiner.subscribe(statusTopic, true);
  const isOwnGranted = (await examiner.subscribe(ownTopic, false)) < REFUSED;
  const pings = await timed(() => examiner.ping());
  const pingPairs = { of: 'pings', took: await timed(() => examiner.ping(2)) } as const;
  const told = (more: Pick<Asked, 'echo' | 'pairs' | 'backlog'>): Asked => ({
    ...{ limits, subscriptions, pings, status: inbox.status },
    ...more,
  });
  const echo = isOwnGranted ? await inbox.echo(scope) : 'refused';
  if (echo === 'cut' || echo === 'refused') return told({ echo, pairs: pingPairs, backlog: undefined });
  const backlog = echo === 'back' ? await inbox.backlog(options.backlog, limits, scope) : undefined;
  // Where nobody listens: our acknowledgement of what came back would take that of the kernel along, and hide its wait.
  const nowhere = `${ownTopic}/nobody`;
  const messagePairs = await kept(
    timed(async () => {
      const answers = await examiner.publish(nowhere, [Buffer.from('1'), Buffer.from('2')]);
      return Math.max(...answers.map(({ at }) => at));
    }),
  );
  const pairs = messagePairs === undefined ? pingPairs : ({ of: 'messages', took: messagePairs } as const);
  return told({ echo, pairs, backlog });
}

/** How long each of some rounds took, one after the other. */
async function timed(round: () => Promise<number>): Promise<readonly Millis[]> {
  const times: Millis[] = [];
  for (let n = 0; n < ROUNDS; n++) {
    const began = performance.now();
    times.push((await round()) - began);
  }
  return times;
}

/** What came back to us, and the retained status. */
class Inbox {
  status: Buffer | undefined;
  #count = 0;
  #unacknowledged: number[] = [];
  #isHolding = false;

  constructor(
    private readonly examiner: Examiner,
    private readonly ownTopic: string,
    statusTopic: string,
  ) {
    examiner.onMessage = (message) => {
      if (message.topic === statusTopic && message.retain) this.status = bytesOf(message);
      if (message.topic === ownTopic) this.#count += 1;
      if (message.qos !== 1 || message.messageId === undefined) return;
      if (this.#isHolding && message.topic === ownTopic) this.#unacknowledged.push(message.messageId);
      else this.examiner.acknowledge([message.messageId]);
    };
  }

  async echo(scope: AbortSignal): Promise<MqttSeen['echo']> {
    this.#count = 0;
    const code = await kept(publishAndPing(this.examiner, this.ownTopic, Buffer.from('0')));
    if (code === undefined) return 'cut';
    if (code >= REFUSED) return 'refused';
    await this.quiet(1, scope);
    return this.#count > 0 ? 'back' : 'silent';
  }

  /** Until so many have come since the last time, or nothing more has come for a while. */
  async quiet(expected: number, scope: AbortSignal): Promise<void> {
    const step = QUIET / 20;
    for (let silence = 0, before = this.#count; this.#count < expected && silence < QUIET; silence += step) {
      // A timer that keeps the process alive: nothing else may, while the broker is silent.
      await sleep(step, undefined, { signal: scope });
      if (this.#count === before) continue;
      before = this.#count;
      silence = 0;
    }
  }

  /** Sends so many to ourselves and acknowledges none until the broker sends no more. */
  async backlog(count: number, limits: BrokerLimits, scope: AbortSignal): Promise<MqttSeen['backlog']> {
    this.#isHolding = true;
    this.#count = 0;
    const window = Math.min(limits.receiveMaximum ?? 20, 20);
    for (let sent = 0; sent < count; sent += window) {
      const payloads = Array.from({ length: Math.min(window, count - sent) }, (_, n) => Buffer.from(String(sent + n)));
      await this.examiner.publish(this.ownTopic, payloads);
    }
    await this.quiet(count, scope);
    const inFlight = this.#count;
    this.#isHolding = false;
    this.examiner.acknowledge(this.#unacknowledged.splice(0));
    await this.quiet(count, scope);
    return { sent: count, inFlight, kept: this.#count };
  }
}

function bytesOf({ payload }: IPublishPacket): Buffer {
  return typeof payload === 'string' ? Buffer.from(payload) : payload;
}
