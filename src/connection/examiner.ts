/**
 * A client for looking at a broker: it tells every code and property of the answers that a connection in earnest takes
 * for granted, and when they came. It keeps no session, has no will, and takes little: what it was not sent for is dropped.
 */
import { performance } from 'node:perf_hooks';
import type { Duplex } from 'node:stream';
import mqttPacket from 'mqtt-packet';
import type { IConnackPacket, IPublishPacket, Packet } from 'mqtt-packet';
import { abortReason } from '../time.js';
import type { BrokerAddress } from './broker-address.js';
import { closedFailure, failure, lateFailure, type Failure } from './failure.js';
import { takeDoubledProperties, writeNumbersWithoutTable } from './packets.js';
import { connectRefusal, serverEnd } from './refusal.js';
import type { ProtocolVersion } from './version-memory.js';

export interface ExaminerOptions {
  readonly stream: Duplex;
  readonly broker: BrokerAddress;
  readonly version: ProtocolVersion;
  readonly clientId: string;
  readonly username: string | undefined;
  readonly password: string | Buffer | undefined;
}

/** The broker ended it, or never began. */
export class ExaminationError extends Error {
  override readonly name = 'ExaminationError';
  constructor(readonly failure: Failure) {
    super(failure.reason);
  }
}

const KEEPALIVE_S = 60;
/** More than this from a broker, all in all, is no answer to what it was asked. */
const LARGEST_TALK = 8 * 1024 * 1024;
/** Asked for with MQTT 5: what others publish is of no interest. */
const LARGEST_PACKET = 256 * 1024;

export class Examiner {
  /** What was published to one of our subscriptions, and the time it came, as performance.now() has it. */
  onMessage: (message: IPublishPacket, at: number) => void = () => undefined;
  readonly #options: ExaminerOptions;
  readonly #parser: ReturnType<typeof mqttPacket.parser>;
  readonly #waiting = new Map<string, (packet: Packet) => void>();
  readonly #ended: Promise<never>;
  #end: (failure: Failure) => void = () => undefined;
  #isAnswered = false;
  #isEnded = false;
  #received = 0;
  #lastId = 0;
  /** Pings without an answer. */
  #pings = 0;

  private constructor(options: ExaminerOptions, scope: AbortSignal) {
    this.#options = options;
    this.#parser = mqttPacket.parser({ protocolVersion: this.#level });
    this.#ended = new Promise((_, reject) => {
      this.#end = (reason) => {
        this.#isEnded = true;
        options.stream.destroy();
        reject(new ExaminationError(reason));
      };
    });
    // Whoever waits for an answer hears of it; nobody has to wait.
    this.#ended.catch(() => undefined);
    this.#listen(scope);
  }

  get #level(): 4 | 5 {
    return this.#options.version === '5' ? 5 : 4;
  }

  /** Says who we are; the answer is told whole. Throws ExaminationError when the broker refuses, or the scope ends. */
  static async open(
    options: ExaminerOptions,
    scope: AbortSignal,
  ): Promise<{ readonly examiner: Examiner; readonly connack: IConnackPacket }> {
    writeNumbersWithoutTable();
    const { username, password, clientId, version } = options;
    const examiner = new Examiner(options, scope);
    const answer = examiner.#answer('connack');
    examiner.#write({
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: version === '5' ? 5 : 4,
      clientId,
      clean: true,
      keepalive: KEEPALIVE_S,
      ...(username !== undefined && { username }),
      ...(password !== undefined && { password: Buffer.from(password) }),
      ...(version === '5' && { properties: { maximumPacketSize: LARGEST_PACKET } }),
    });
    return { examiner, connack: (await answer) as IConnackPacket };
  }

  /** The broker's code: 0 to 2 is the QoS it grants, from 0x80 on it refuses. `retained`: whether those are wanted. */
  async subscribe(topic: string, retained: boolean): Promise<number> {
    const messageId = this.#nextId();
    const answer = this.#answer(`suback:${messageId}`);
    this.#write({ cmd: 'subscribe', messageId, subscriptions: [{ topic, qos: 1, rh: retained ? 0 : 2 }] });
    const { granted } = (await answer) as { granted?: readonly unknown[] };
    const [code] = granted ?? [];
    return typeof code === 'number' ? code : 0x80;
  }

  /**
   * Publishes at QoS 1, all in one write. Resolves with the code and the time of each acknowledgement; 3.1.1 knows no
   * code but 0.
   */
  async publish(
    topic: string,
    payloads: readonly Buffer[],
  ): Promise<readonly { readonly code: number; readonly at: number }[]> {
    const packets = payloads.map((payload) => ({ payload, messageId: this.#nextId() }));
    const answers = packets.map(async ({ messageId }) => {
      const answer = await this.#answer(`puback:${messageId}`);
      return { code: 'reasonCode' in answer ? (answer.reasonCode ?? 0) : 0, at: performance.now() };
    });
    this.#writeAll(
      packets.map(({ payload, messageId }) => ({
        ...{ cmd: 'publish', topic, payload, messageId, qos: 1, retain: false, dup: false },
      })),
    );
    return Promise.all(answers);
  }

  /** Acknowledges messages, all in one write. */
  acknowledge(messageIds: readonly number[]): void {
    this.#writeAll(messageIds.map((messageId) => ({ cmd: 'puback', messageId })));
  }

  /** So many pings in one write; resolves with the time of the last answer. */
  async ping(count = 1): Promise<number> {
    const answer = this.#answer('pingresp');
    this.#pings = count;
    this.#writeAll(Array.from({ length: count }, () => ({ cmd: 'pingreq' })));
    await answer;
    return performance.now();
  }

  /** Says goodbye. Idempotent. */
  close(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#options.stream.end(mqttPacket.generate({ cmd: 'disconnect' }, { protocolVersion: this.#level }));
    // The goodbye is small and no answer comes: whatever the broker does, the socket goes.
    this.#options.stream.once('finish', () => this.#options.stream.destroy());
  }

  #listen(scope: AbortSignal): void {
    const { stream, broker } = this.#options;
    const isEnded = new AbortController();
    const onAbort = (): void => this.#end(lateFailure(broker, abortReason(scope)));
    scope.addEventListener('abort', onAbort, { once: true, signal: isEnded.signal });
    let cause: Error | undefined;
    stream.on('data', (chunk: Buffer) => this.#take(chunk));
    stream.on('error', (error) => (cause ??= error));
    stream.once('close', () => {
      isEnded.abort();
      if (!this.#isEnded) this.#end(closedFailure(cause, broker, this.#isAnswered));
    });
    this.#parser.on('error', (error: unknown) => this.#unreadable(error));
    this.#parser.on('packet', (packet) => this.#onPacket(packet));
    if (scope.aborted) onAbort();
  }

  #take(chunk: Buffer): void {
    const { broker } = this.#options;
    this.#received += chunk.length;
    if (this.#isEnded) return;
    if (this.#received > LARGEST_TALK) {
      const text = `${broker.text} sent more than ${LARGEST_TALK} bytes that nobody asked for.`;
      this.#end(failure('protocol', broker, text));
      return;
    }
    try {
      this.#parser.parse(chunk);
    } catch (error) {
      this.#unreadable(error);
    }
  }

  #unreadable(error: unknown): void {
    const { broker } = this.#options;
    const text = `what ${broker.text} sent could not be read as MQTT. Check that the address is a broker’s.`;
    this.#end(failure('protocol', broker, text, error));
  }

  #onPacket(packet: Packet): void {
    const at = performance.now();
    if (takeDoubledProperties(packet) !== undefined) this.#unreadable(undefined);
    else if (packet.cmd === 'publish') this.onMessage(packet, at);
    else if (packet.cmd === 'disconnect') this.#end(serverEnd(packet.reasonCode ?? 0, this.#options.broker));
    else if (packet.cmd === 'connack') this.#onConnack(packet);
    else if (packet.cmd === 'pingresp' && --this.#pings > 0) return;
    else {
      const key = packet.messageId === undefined ? packet.cmd : `${packet.cmd}:${packet.messageId}`;
      this.#waiting.get(key)?.(packet);
      this.#waiting.delete(key);
    }
  }

  #onConnack(packet: IConnackPacket): void {
    this.#isAnswered = true;
    const code = packet.reasonCode ?? packet.returnCode ?? 0;
    if (code !== 0) this.#end(connectRefusal(code, this.#options.broker));
    else this.#waiting.get('connack')?.(packet);
  }

  #answer(key: string): Promise<Packet> {
    return Promise.race([new Promise<Packet>((resolve) => this.#waiting.set(key, resolve)), this.#ended]);
  }

  #write(packet: Packet): void {
    this.#writeAll([packet]);
  }

  #writeAll(packets: readonly Packet[]): void {
    if (this.#isEnded || packets.length === 0) return;
    const options = { protocolVersion: this.#level };
    this.#options.stream.write(Buffer.concat(packets.map((packet) => mqttPacket.generate(packet, options))));
  }

  /** All are used up long before the numbers are. */
  #nextId(): number {
    this.#lastId = (this.#lastId % 65_535) + 1;
    return this.#lastId;
  }
}
