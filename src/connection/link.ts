/**
 * One connection to one broker, from CONNECT to its end; never reused. It stands on the mqtt package's MqttClient,
 * which gets a stream that is open already, no reconnecting and no keepalive timer: those are ours. It leads the
 * handshakes and reads every packet that is not of the everyday kind; PUBLISH and PUBACK are read before it as a rule
 * (packet-reader.ts), and publications, PUBACKs, PINGREQ and DISCONNECT are written beside it.
 */
import type { Duplex } from 'node:stream';
import { type IClientOptions, type IConnackPacket, type IPublishPacket, MqttClient } from 'mqtt';
import { crashPoint } from '../crash-point.js';
import { AgentError } from '../errors.js';
import type { Clock, Millis } from '../time.js';
import { AckQueue } from './ack-queue.js';
import type { BrokerAddress } from './broker-address.js';
import { closedFailure, type Failure, failure } from './failure.js';
import { keepAlive } from './keepalive.js';
import { MqttStream } from './mqtt-stream.js';
import type { Delivery, Payload, PublishOptions, PublishOutcome, SendOutcome, Session, Will } from './ports.js';
import { PacketIds } from './packet-ids.js';
import { sessionFrom, takeDoubledProperties, writeNumbersWithoutTable } from './packets.js';
import { Publications } from './publications.js';
import type { ReadMemory } from './read-memory.js';
import type { ReadPublish } from './publish-reader.js';
import { connectRefusal, serverEnd, subscribeRefusal } from './refusal.js';
import { Scope } from './scope.js';
import { TurnEnd } from './turn-end.js';
import type { ProtocolVersion } from './version-memory.js';

/** How long a clean end waits for the broker to close. */
const GOODBYE_TIMEOUT: Millis = 1_000;
const WILL_DELAY_S = 3;
const LONGEST_TIMER = 2 ** 31 - 1;
/** PINGREQ and DISCONNECT (normal; MQTT 5 lets the reason 0 be left out [MQTT5-3.14.2.1]). */
const PINGREQ = Buffer.of(0xc0, 0);
const DISCONNECT = Buffer.of(0xe0, 0);
/** Given to the callback of handleMessage: the mqtt package then sends no PUBACK and goes on (a test holds it to that). */
const DEFERRED = new Error('the acknowledgement is deferred');

export interface LinkOptions {
  readonly transport: Duplex;
  /** What the transport may read into. */
  readonly memory?: ReadMemory;
  readonly broker: BrokerAddress;
  readonly protocolVersion: ProtocolVersion;
  readonly clientId: string;
  readonly username: string | undefined;
  readonly password: string | Buffer | undefined;
  readonly will: Will | undefined;
  readonly subscriptions: readonly string[];
  readonly keepalive: Millis;
  readonly sessionExpiry: Millis;
  readonly maxMessageSize: number;
  readonly receiveMaximum: number;
  readonly clock: Clock;
  readonly onMessage: (delivery: Delivery, link: Link) => void;
}

export class Link {
  /** Settles with the session once the broker granted the subscriptions, or with the reason why it never did. */
  readonly opened: Promise<{ kind: 'open'; session: Session } | { kind: 'failed'; failure: Failure }>;
  /** Resolves when the connection has ended and all is released; never rejects. */
  readonly ended: Promise<Failure>;
  readonly #options: LinkOptions;
  readonly #stream: MqttStream;
  readonly #client: MqttClient;
  readonly #acks: AckQueue;
  readonly #scope = new Scope();
  readonly #publications: Publications;
  #session: Session | undefined;
  #hasAnswered = false;
  #isEnding = false;
  #failure: Failure | undefined;
  #error: Error | undefined;
  #publishOrdinal = -1;

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#stream = new MqttStream({
      transport: options.transport,
      memory: options.memory,
      maxMessageSize: options.maxMessageSize,
      hasProperties: options.protocolVersion === '5',
      monotonic: () => options.clock.monotonic(),
      onPublish: (publish) => this.#deliver(publish, undefined),
      onPuback: (id, reasonCode) => this.#publications.answered(id, reasonCode),
    });
    const turnEnd = new TurnEnd(() => this.#write());
    const due = (): void => turnEnd.set();
    this.#acks = new AckQueue((pubacks) => this.#publications.goWith(pubacks), due);
    const ids = new PacketIds();
    const write = (pieces: readonly Buffer[]): void => this.#stream.writeAll(pieces);
    this.#publications = new Publications(ids, options.protocolVersion, write, due);
    writeNumbersWithoutTable();
    this.#client = new MqttClient(() => this.#stream, clientOptions(options, ids));
    this.#client.handleMessage = (packet, done) => this.#receive(packet, done);
    this.ended = this.#listen();
    this.opened = this.#open();
    this.#client.connect();
  }

  /** Publishes on an open link. Rejects with connection.closed when it ends before the broker's answer. */
  publish(topic: string, payload: Buffer, options: PublishOptions): Promise<PublishOutcome> {
    return new Promise((resolve, reject) => {
      this.send(topic, payload, options, (outcome) => {
        if (outcome.kind === 'cut') reject(this.#closedError(topic));
        else resolve(outcome);
      });
    });
  }

  /** As `publish`; `done` is told what came of it. */
  send(topic: string, payload: Payload, options: PublishOptions, done: (outcome: SendOutcome) => void): void {
    const session = this.#session;
    if (session === undefined || this.#isEnding) done({ kind: 'cut' });
    else this.#publications.publish(topic, payload, options, session, done);
  }

  /** Writes the PUBACKs that are due. */
  flushAcks(): void {
    this.#write();
  }

  /** Reads nothing more from the broker until `readOn`. */
  holdReading(): void {
    this.#stream.holdReading();
  }

  /** Ends what `holdReading` began. */
  readOn(): void {
    this.#stream.readOn();
  }

  /** Messages received on this link and not acknowledged to the broker. */
  get unacknowledged(): number {
    return this.#acks.depth;
  }

  /** Says goodbye (no will is published) and resolves when all is released. Idempotent. */
  async close(): Promise<void> {
    if (!this.#isEnding) {
      this.#isEnding = true;
      this.#write();
      this.#options.clock.after(GOODBYE_TIMEOUT, () => this.#stream.destroy(), this.#scope.signal);
      this.#stream.end(DISCONNECT);
    }
    await this.ended;
  }

  /** Ends it without a goodbye. */
  destroy(reason: Failure): void {
    this.#failure ??= reason;
    this.#isEnding = true;
    this.#stream.destroy();
  }

  /** Collects why it ends; resolves with that once the stream is closed. */
  #listen(): Promise<Failure> {
    this.#stream.on('error', (error) => {
      this.#error ??= error;
    });
    this.#client.on('error', (error) => this.#onClientError(error));
    this.#client.on('disconnect', (packet) => {
      this.#failure ??= serverEnd(packet.reasonCode ?? 0, this.#options.broker);
    });
    this.#client.on('packetreceive', (packet) => {
      this.#stream.reader.readElsewhere();
      if (packet.cmd === 'publish' && !this.#hasAnswered)
        this.#onClientError(new Error('a PUBLISH came before the CONNACK'));
      const doubled = takeDoubledProperties(packet);
      if (doubled !== undefined) this.#onClientError(new Error(`the property ${doubled} stands in a packet twice`));
      if (packet.cmd === 'publish') this.#publishOrdinal += 1;
      else if (packet.cmd === 'puback') this.#publications.answered(packet.messageId ?? 0, packet.reasonCode ?? 0);
      else if (packet.cmd === 'pubrec')
        this.#onClientError(new Error('a PUBREC came, and nothing was sent with QoS 2'));
      else if (packet.cmd === 'connack') this.#onConnack(packet.reasonCode ?? packet.returnCode ?? 0);
    });
    return new Promise((resolve) => {
      this.#client.once('close', () => resolve(this.#release()));
    });
  }

  #onConnack(code: number): void {
    this.#hasAnswered = true;
    if (code === 0) this.#stream.reader.open();
    else this.#failure ??= connectRefusal(code, this.#options.broker);
  }

  #onClientError(error: Error): void {
    this.#error ??= error;
    // An errno is the socket's and told with the close; all else is a packet that the client could not take.
    if (!('code' in error && typeof error.code === 'string')) {
      const { broker } = this.#options;
      const text = `what ${broker.text} sent could not be read as MQTT: ${error.message}. Check that the address is a broker’s.`;
      this.#failure ??= failure('protocol', broker, text, error);
    }
    this.#stream.destroy();
  }

  #release(): Failure {
    this.#isEnding = true;
    this.#scope.end();
    this.#acks.close();
    this.#failure ??= closedFailure(this.#error, this.#options.broker, this.#hasAnswered);
    this.#publications.close();
    this.#client.removeAllListeners();
    // A parser may still speak of bytes that were on the way; an 'error' nobody hears would end the process.
    this.#client.on('error', () => undefined);
    return this.#failure;
  }

  async #open(): Promise<{ kind: 'open'; session: Session } | { kind: 'failed'; failure: Failure }> {
    const connack = await this.#untilEnd<IConnackPacket>((resolve) => this.#client.once('connect', resolve));
    if (connack === undefined) return { kind: 'failed', failure: await this.ended };
    const session = sessionFrom(connack, { ...this.#options, broker: this.#options.broker.text });
    const serverKeepalive = connack.properties?.serverKeepAlive;
    keepAlive(
      {
        interval: serverKeepalive === undefined ? this.#options.keepalive : serverKeepalive * 1000,
        clock: this.#options.clock,
        lastReceived: () => this.#stream.lastReceived,
        lastSent: () => this.#stream.lastSent,
        largestPending: () => this.#publications.largestPending,
        ping: () => this.#stream.writeAll([PINGREQ]),
        onDead: () => this.#onSilence(),
      },
      this.#scope.signal,
    );
    const refused = await this.#subscribe();
    if (refused !== undefined) {
      this.#failure ??= refused;
      await this.close();
      return { kind: 'failed', failure: refused };
    }
    if (this.#isEnding) return { kind: 'failed', failure: await this.ended };
    this.#session = session;
    return { kind: 'open', session };
  }

  /** Undefined when all subscriptions were granted or the link has ended. */
  async #subscribe(): Promise<Failure | undefined> {
    const topics = this.#options.subscriptions;
    if (topics.length === 0) return undefined;
    // rh 1: retained messages only when the subscription is new, not at each reconnect (MQTT 5).
    const wanted = Object.fromEntries(topics.map((topic) => [topic, { qos: 1 as const, rh: 1 }]));
    const answer = await this.#untilEnd<{ error: Error | null }>((resolve) =>
      this.#client.subscribe(wanted, (error) => resolve({ error })),
    );
    if (answer === undefined || answer.error === null || this.#stream.destroyed) return undefined;
    return subscribeRefusal(topics, this.#options.broker, answer.error);
  }

  /** What `begin` resolves with, or undefined when the link ends before. */
  #untilEnd<T>(begin: (resolve: (value: T) => void) => void): Promise<T | undefined> {
    return Promise.race([new Promise<T>(begin), this.ended.then(() => undefined)]);
  }

  #onSilence(): void {
    const { broker, clock } = this.#options;
    const seconds = Math.round((clock.monotonic() - this.#stream.lastReceived) / 1000);
    const text = `${broker.text} was silent for ${seconds} s: the connection is taken for dead.`;
    this.destroy(failure('keepalive', broker, text));
  }

  /** Writes what is due as one: PUBACKs and publications. */
  #write(): void {
    const isAnyAcknowledged = this.#acks.flush();
    this.#publications.flush();
    FAULT: if (isAnyAcknowledged) crashPoint('puback.written');
  }

  /** Takes a PUBLISH that the mqtt package has read. */
  #receive(packet: IPublishPacket, done: (error?: Error) => void): void {
    const size = this.#stream.publishFilter.sizeBeforeCut(this.#publishOrdinal);
    const { topic, qos, retain, dup, messageId = 0, payload, properties = {} } = packet;
    const bytes = typeof payload === 'string' ? Buffer.from(payload) : payload;
    // Before the CONNACK it is nobody's, and the link ends.
    if (this.#hasAnswered) this.#deliver({ topic, payload: bytes, qos, id: messageId, retain, dup, properties }, size);
    // Last: the package may read the next packet in this very call, and that one came later.
    // We subscribe at QoS 1, so nothing comes with 2; if it does, the package completes it by itself.
    done(qos === 2 ? undefined : DEFERRED);
  }

  #deliver(publish: ReceivedPublish, truncatedFrom: number | undefined): void {
    this.#options.onMessage(new Received(publish, truncatedFrom, this.#acks), this);
  }

  #closedError(topic: string): AgentError {
    const why = this.#failure?.reason ?? 'the connection ends.';
    const details = { broker: this.#options.broker.text };
    return new AgentError('connection.closed', `the publication to ${topic} was not acknowledged: ${why}`, details);
  }
}

/** A PUBLISH, whoever has read it. */
type ReceivedPublish = Omit<ReadPublish, 'qos'> & { readonly qos: 0 | 1 | 2 };

/** A message as it came on one link. */
class Received implements Delivery {
  /** Its place among those that wait for their PUBACK. */
  readonly #place: number;

  constructor(
    private readonly publish: ReceivedPublish,
    readonly truncatedFrom: number | undefined,
    private readonly acks: AckQueue,
  ) {
    this.#place = publish.qos === 1 ? acks.arrived(publish.id) : -1;
  }

  get topic(): string {
    return this.publish.topic;
  }

  get payload(): Buffer {
    return this.publish.payload;
  }

  get qos(): 0 | 1 | 2 {
    return this.publish.qos;
  }

  get retain(): boolean {
    return this.publish.retain;
  }

  get dup(): boolean {
    return this.publish.dup;
  }

  get responseTopic(): string | undefined {
    return this.publish.properties.responseTopic;
  }

  get correlationData(): Buffer | undefined {
    return this.publish.properties.correlationData;
  }

  get messageExpiry(): number | undefined {
    return this.publish.properties.messageExpiryInterval;
  }

  ack(): void {
    if (this.qos === 1) this.acks.acknowledge(this.#place);
  }
}

function clientOptions(options: LinkOptions, ids: PacketIds): IClientOptions {
  const isV5 = options.protocolVersion === '5';
  const sessionExpiry = Math.min(Math.ceil(options.sessionExpiry / 1000), 0xffffffff);
  const { will, username, password } = options;
  return {
    manualConnect: true,
    reconnectPeriod: 0,
    resubscribe: false,
    queueQoSZero: false,
    protocolVersion: isV5 ? 5 : 4,
    clientId: options.clientId,
    clean: options.sessionExpiry === 0,
    keepalive: Math.min(Math.ceil(options.keepalive / 1000), 0xffff),
    // Both timers are ours: the attempt's deadline and the keepalive.
    connectTimeout: LONGEST_TIMER,
    timerVariant: { set: () => 1, clear: () => undefined },
    reschedulePings: false,
    messageIdProvider: ids,
    log: () => undefined,
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    ...(isV5 && { properties: { receiveMaximum: options.receiveMaximum, sessionExpiryInterval: sessionExpiry } }),
    ...(will !== undefined && {
      will: {
        topic: will.topic,
        payload: will.payload,
        qos: 1,
        retain: will.retain,
        ...(isV5 && { properties: { willDelayInterval: WILL_DELAY_S } }),
      },
    }),
  };
}
