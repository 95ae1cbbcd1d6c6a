/** The other end of the broker, as a server or an operator has it: sends envelopes, keeps all that the agent says. */
import { Socket } from 'node:net';
import { connectAsync, type IClientOptions, type IClientPublishOptions, type MqttClient } from 'mqtt';
import { Signal } from '../../src/signal/index.js';

/** A payload as it came, with its fields decoded where it is JSON. `raw` holds the bytes of the wire. */
export interface Heard {
  readonly topic: string;
  readonly raw: string;
  readonly retain: boolean;
  /** When, in milliseconds of the machine's monotonic clock. */
  readonly at: number;
  /** MQTT 5 Correlation Data, as text. */
  readonly correlation?: string;
  readonly type?: string;
  readonly message_id?: string;
  readonly response_to?: string;
  readonly sent?: string;
  readonly directive?: string;
  readonly metadata?: Record<string, string>;
  readonly content?: unknown;
}

export interface StatusContent {
  readonly state: string;
  readonly dispatchers: Record<string, Record<string, string>>;
  readonly tags?: Record<string, string>;
}

/** How long a test waits for what must come before it fails with what it has. */
const PATIENCE_MS = 30_000;

/** Properties of MQTT 5, and a retain flag where one is wanted. */
export type PublishOptions = Pick<IClientPublishOptions, 'properties' | 'retain'>;

export class Operator implements AsyncDisposable {
  readonly heard: Heard[] = [];
  /** All of it, also what was forgotten. */
  readonly everything: Heard[] = [];
  /** Each message as it comes. */
  readonly hear = new Signal<Heard>('hear');
  #serial = 0;

  private constructor(
    readonly client: MqttClient,
    readonly clientId: string,
    readonly prefix: string,
  ) {}

  /** Connects and listens to all that the agent `clientId` says. */
  static async connect(
    url: string,
    clientId: string,
    options: IClientOptions & { prefix?: string } = {},
  ): Promise<Operator> {
    const { prefix = 'yggdrasil', ...rest } = options;
    const client = await connectAsync(url, { protocolVersion: 5, ...rest });
    // Without it each of our packets behind another waits 40 ms for the broker's TCP acknowledgement.
    const hurry = (): void => {
      if (client.stream instanceof Socket) client.stream.setNoDelay(true);
    };
    hurry();
    client.on('connect', hurry);
    const operator = new Operator(client, clientId, prefix);
    client.on('message', (topic, payload, packet) => {
      const raw = payload.toString('utf8');
      const fields = raw.startsWith('{') ? (JSON.parse(raw) as object) : {};
      const correlation = packet.properties?.correlationData?.toString();
      const more = correlation === undefined ? {} : { correlation };
      const heard: Heard = {
        ...fields,
        topic,
        raw,
        retain: packet.retain,
        at: Number(process.hrtime.bigint()) / 1e6,
        ...more,
      };
      operator.heard.push(heard);
      operator.everything.push(heard);
      operator.hear.emit(heard);
    });
    await client.subscribeAsync([`${prefix}/${clientId}/control/out`, `${prefix}/${clientId}/data/out`], { qos: 1 });
    return operator;
  }

  /** The first message, past or to come, for which `accept` holds. */
  async until(accept: (heard: Heard) => boolean, what: string): Promise<Heard> {
    const past = this.heard.find(accept);
    if (past !== undefined) return past;
    try {
      return await this.hear.next(AbortSignal.timeout(PATIENCE_MS), accept);
    } catch (cause) {
      throw new Error(`waited for ${what}; heard:\n${this.heard.map(({ raw }) => raw.slice(0, 400)).join('\n')}`, {
        cause,
      });
    }
  }

  answerTo(messageId: string): Promise<Heard> {
    return this.until((heard) => heard.response_to === messageId, `an answer to ${messageId}`);
  }

  /** The first status from now on (or the present retained one) for which `accept` holds. */
  status(accept: (status: StatusContent, heard: Heard) => boolean, what = 'a status'): Promise<Heard> {
    return this.until(
      (heard) => heard.type === 'connection-status' && accept(heard.content as StatusContent, heard),
      what,
    );
  }

  /** Forgets what was heard, so that the next `until` waits for something new. */
  forget(): void {
    this.heard.length = 0;
  }

  newId(): string {
    this.#serial += 1;
    return `00000000-0000-4000-8000-${String(this.#serial).padStart(12, '0')}`;
  }

  /** Sends a data message whose content is `content` to the byte (left out when undefined); its id. */
  async send(
    directive: string,
    content: string | undefined,
    more: { id?: string; metadata?: unknown; options?: PublishOptions } = {},
  ): Promise<string> {
    const id = more.id ?? this.newId();
    const head = `{"type":"data","message_id":${JSON.stringify(id)},"response_to":"","version":1,"sent":"2026-01-01T00:00:00Z","directive":${JSON.stringify(directive)},"metadata":${JSON.stringify(more.metadata ?? {})}`;
    await this.publish('data/in', content === undefined ? `${head}}` : `${head},"content":${content}}`, more.options);
    return id;
  }

  async command(command: string, args?: unknown, id = this.newId()): Promise<string> {
    const content = args === undefined ? { command } : { command, arguments: args };
    await this.publish(
      'control/in',
      JSON.stringify({ type: 'command', message_id: id, version: 1, sent: '2026-01-01T00:00:00Z', content }),
    );
    return id;
  }

  async publish(topic: string, payload: string | Buffer, options: PublishOptions = {}): Promise<void> {
    await this.client.publishAsync(`${this.prefix}/${this.clientId}/${topic}`, payload, { qos: 1, ...options });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.endAsync(true);
  }
}

/** The bytes of the content field of a data message of ours, which stands last. */
export function contentOf(heard: Heard): string {
  const marker = '"content":';
  return heard.raw.slice(heard.raw.indexOf(marker) + marker.length, -1);
}
