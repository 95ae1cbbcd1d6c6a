/**
 * The router stands between the broker and the store: data goes in and is acknowledged once it is safe, results go
 * out, commands are carried out, and the world is told whether this agent is there. This file only ties those parts to
 * the connection; each has a file of its own. It owns the connection's life: `start` starts it, `stop` says goodbye.
 */
import type { Log } from '../log/log.js';
import type { DirectiveKey, MessageKey } from '../message/index.js';
import { Signal } from '../signal/index.js';
import { systemClock, type Clock, type Millis, type Random } from '../time.js';
import { Commands, type DataCancel } from './commands.js';
import { Intake, type IntakeCounts, type MalformedMessage } from './intake.js';
import { Link } from './link.js';
import { Outbox } from './outbox.js';
import type { Cancellation, ConnectionPort, Delivery, Identity, LinkDown, LinkUp, StorePort, Will } from './ports.js';
import { Presence } from './presence.js';
import { DEFAULT_ROUTER_SETTINGS, type RouterSettings } from './settings.js';
import { topicsOf, type Topics } from './topics.js';

export interface RouterOptions {
  /**
   * The connection, subscribed to `subscriptionsOf(topicPrefix, clientId)` and asking `router.will()` before each
   * attempt. A function, so that the two can name each other.
   */
  readonly connection: () => ConnectionPort;
  readonly store: StorePort;
  readonly clientId: string;
  readonly topicPrefix: string;
  readonly identity: Identity;
  readonly settings?: Partial<RouterSettings>;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly log: Log;
}

/** What the router has counted since the start, and what it holds now. */
export interface RouterCounts extends IntakeCounts {
  /** Results that were published and not acknowledged by the broker. */
  readonly publishing: number;
}

/** The topics the connection subscribes to for an agent. */
export function subscriptionsOf(topicPrefix: string, clientId: string): readonly string[] {
  const topics = topicsOf(topicPrefix, clientId);
  return [topics.controlIn, topics.dataIn];
}

/** Ends of a link that were our own wish. */
const WANTED_ENDS: ReadonlySet<string> = new Set(['requested', 'moving', 'stopped']);

/** Ends of a link that something on its way to the broker may have caused. */
const SUSPICIOUS_ENDS: ReadonlySet<string> = new Set(['closed', 'server', 'protocol', 'tls']);

export class MessageRouter {
  /** A message is on stable storage, and its PUBACK may go. */
  readonly dataRecv: Signal<MessageKey>;
  /** The broker's side wants a message given up that is with its worker already. */
  readonly dataCancel: Signal<DataCancel>;
  /** A message on `data/in` was refused. */
  readonly malformed: Signal<MalformedMessage>;
  /** The connection was cut. */
  readonly connectionLost: Signal<{ readonly reason: string }>;
  /** It is up again, after it was cut or the broker's side had told this agent to disconnect. */
  readonly connectionRestored: Signal<LinkUp>;
  /** The broker's side told this agent to disconnect. */
  readonly disconnectCommand: Signal<{ readonly messageId: string }>;

  readonly #options: RouterOptions;
  readonly #settings: RouterSettings;
  readonly #topics: Topics;
  readonly #intake: Intake;
  readonly #commands: Commands;
  readonly #presence: Presence;
  readonly #outbox: Outbox;
  readonly #scope = new AbortController();
  #link: Link | undefined;
  /** The workers were told that the link is gone, and not yet that it is back. */
  #isLost = false;
  #isStarted = false;
  #stopping: Promise<void> | undefined;
  /** Control that came before `up`: what answers it could not go out yet. Unacknowledged, so never lost. */
  #early: Delivery[] = [];
  /** The last change of the link that was asked for: one after the other. */
  #linkChange: Promise<void> = Promise.resolve();

  constructor(options: RouterOptions) {
    const { store, identity, log, clock = systemClock, random = Math.random } = options;
    const settings = { ...DEFAULT_ROUTER_SETTINGS, ...options.settings };
    const topics = topicsOf(options.topicPrefix, options.clientId);
    const signal = <T>(name: string): Signal<T> =>
      new Signal<T>(name, (error, of) =>
        log.error('router.handler_failed', 'what was to be done on a signal failed', { signal: of, error }),
      );
    this.dataRecv = signal('data-recv');
    this.dataCancel = signal('data-cancel');
    this.malformed = signal('malformed');
    this.connectionLost = signal('connection-lost');
    this.connectionRestored = signal('connection-restored');
    this.disconnectCommand = signal('disconnect-command');
    this.#options = options;
    this.#settings = settings;
    this.#topics = topics;
    const answered = (): void => this.#outbox.nudge();
    const parts = { store, topics, settings, clock, random, log, identity, answered };
    this.#presence = new Presence(parts);
    this.#outbox = new Outbox(parts);
    this.#intake = new Intake({
      ...parts,
      dataRecv: this.dataRecv,
      malformed: this.malformed,
      renew: () => void options.connection().reconnect(0),
      holdReading: () => options.connection().holdReading(),
      readOn: () => options.connection().readOn(),
    });
    this.#commands = new Commands({
      ...parts,
      dataCancel: this.dataCancel,
      disconnectCommand: this.disconnectCommand,
      tell: (payload) => void this.#link?.control({ topic: topics.controlOut, payload, qos: 1, retain: false }),
      flushAcks: () => options.connection().flushAcks(),
      disconnect: () => {
        this.#isLost = true;
        return this.linkDown();
      },
      reconnect: (delay) => this.#reconnect(delay),
    });
  }

  /** Counters and gauges, for metrics and status. */
  get counts(): RouterCounts {
    return { ...this.#intake.counts, publishing: this.#outbox.inFlight };
  }

  /** Starts the connection and does not wait for it to be up. A router that was stopped stays so. */
  async start(): Promise<void> {
    if (this.#isStarted || this.#scope.signal.aborted) return;
    this.#isStarted = true;
    const scope = this.#scope.signal;
    const connection = this.#options.connection();
    connection.up.connect((granted) => this.#onUp(granted), scope);
    connection.down.connect((down) => this.#onDown(down), scope);
    connection.message.connect((delivery) => this.#onMessage(delivery), scope);
    this.#intake.start(scope);
    this.#commands.start(scope);
    this.#outbox.start(scope);
    await connection.start();
  }

  /** Tells `offline`, waits a while for its PUBACK, disconnects and releases everything. Idempotent, also mid-start. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  /** Connects again after a `disconnect` command or `linkDown`, or at once when it waits for its next attempt. */
  linkUp(): Promise<void> {
    return this.#inTurn(() => this.#options.connection().connect());
  }

  /** Tells `offline`, disconnects and stays idle until `linkUp`. */
  linkDown(): Promise<void> {
    return this.#changeLink(() => this.#options.connection().disconnect());
  }

  /** As the command `cancel` does. Rejects while the journal cannot be written. */
  cancel(directive: DirectiveKey, messageId: string): Promise<Cancellation> {
    return this.#commands.cancel(directive, messageId);
  }

  /** The will of this agent as it stands now, for the next attempt to connect. */
  will(): Promise<Will> {
    return this.#presence.will();
  }

  /** A result is ready to be published. */
  publish(_key: MessageKey): void {
    this.#outbox.nudge();
  }

  /** A worker registered or left: a new status goes out if the handlers really changed. */
  workersChanged(): void {
    this.#presence.workersChanged();
  }

  /** The tags or facts changed: a new status goes out. */
  identityChanged(): void {
    this.#presence.announce();
  }

  #onMessage(delivery: Delivery): void {
    const { topic } = delivery;
    if (topic === this.#topics.dataIn) {
      this.#intake.take(delivery);
    } else if (topic !== this.#topics.controlIn) {
      this.#options.log.warn('router.foreign_topic', 'a message on a topic that is not this agent’s is ignored', {
        topic,
      });
      delivery.ack();
    } else if (this.#link === undefined) {
      // Beyond the bound the broker keeps it: it was not acknowledged.
      if (this.#early.length < this.#settings.receiveMaximum) this.#early.push(delivery);
    } else {
      void this.#commands.take(delivery);
    }
  }

  #onUp(granted: LinkUp): void {
    const { publishWindow, controlSlots, primeTopics } = this.#settings;
    const connection = this.#options.connection();
    const link = new Link({ connection, granted, publishWindow, controlSlots });
    this.#link = link;
    if (primeTopics) link.prime(this.#topics.dataOut);
    this.#presence.linkUp(link);
    for (const delivery of this.#early.splice(0)) void this.#commands.take(delivery);
    this.#outbox.linkUp(link);
    if (!this.#isLost) return;
    this.#isLost = false;
    this.connectionRestored.emit(granted);
  }

  #onDown(down: LinkDown): void {
    this.#early = [];
    this.#intake.linkDown();
    this.#commands.linkDown();
    const link = this.#link;
    if (link === undefined) return;
    const isCut = !WANTED_ENDS.has(down.code);
    this.#link = undefined;
    link.end();
    this.#presence.linkDown();
    this.#outbox.linkDown(SUSPICIOUS_ENDS.has(down.code));
    if (!isCut) return;
    this.#isLost = true;
    this.connectionLost.emit({ reason: down.reason });
  }

  #reconnect(delay: Millis): Promise<void> {
    return this.#changeLink(() => this.#options.connection().reconnect(delay));
  }

  /** Tells `offline` where there is a link, then changes it. */
  #changeLink(change: () => Promise<void>): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#link !== undefined) await this.#presence.goOffline(this.#link);
      await change();
    });
  }

  /** One change of the link at a time, in the order they were asked for. */
  #inTurn(change: () => Promise<void> | void): Promise<void> {
    const changed = this.#linkChange.then(change);
    this.#linkChange = changed.catch(() => undefined);
    return changed;
  }

  async #stop(): Promise<void> {
    try {
      if (this.#isStarted) await this.#changeLink(() => this.#options.connection().stop());
    } finally {
      this.#link?.end();
      this.#scope.abort();
    }
  }
}
