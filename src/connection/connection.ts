/**
 * One MQTT connection that is kept up: tries the brokers in turn, for ever, with full jitter between rounds; goes back
 * to the first broker when it accepts again; and delivers messages whose acknowledgement the caller decides. It knows
 * no topic of its own. Each attempt has a link of its own; whatever is not acknowledged when a link ends comes again
 * from the broker on the next one.
 *
 * The states are ConnectionState. `start` and `connect` begin a life, `disconnect`, `reconnect`, `renew` and `stop` end
 * it; lives never overlap: a new one waits for the end of the one before.
 */
import { AgentError } from '../errors.js';
import { silentLog, type Log } from '../log/log.js';
import { Signal } from '../signal/index.js';
import { fullJitter, type Backoff, type Clock, type Millis, type Random, sleep, systemClock } from '../time.js';
import { attempt, type AttemptSettings, probe } from './attempt.js';
import { type BrokerAddress, parseBrokerAddress } from './broker-address.js';
import type { DownCode, Failure } from './failure.js';
import type { Link } from './link.js';
import type {
  ConnectionOptions,
  ConnectionState,
  Delivery,
  Down,
  Payload,
  PublishOptions,
  PublishOutcome,
  SendOutcome,
  Session,
} from './ports.js';
import { Scope } from './scope.js';
import { TlsKeeper } from './tls-material.js';
import { VersionMemory } from './version-memory.js';

const PROBE_EVERY: Millis = 600_000;
/** A link that lasted less does not reset the back-off: two agents with one client id would end each other for ever. */
const STABLE_AFTER: Millis = 10_000;

/** Why a life ends. The first two are followed by a new one. */
class LifeEnd extends Error {
  constructor(
    readonly code: Extract<DownCode, 'requested' | 'moving' | 'stopped'>,
    readonly text: string,
    readonly retryIn: Millis | undefined,
  ) {
    super(text);
  }
}

interface Up {
  readonly link: Link;
  readonly session: Session;
  /** Its place in the list of brokers. */
  readonly index: number;
}

export class Connection {
  /** The broker granted the session and the subscriptions. */
  readonly up: Signal<Session>;
  /** The connection ended, or a round through the brokers failed. */
  readonly down: Signal<Down>;
  /** A message came; it may come before `up`. */
  readonly message: Signal<Delivery>;
  readonly #brokers: readonly BrokerAddress[];
  readonly #settings: AttemptSettings;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #backoff: Backoff;
  readonly #log: Log;
  readonly #versions: VersionMemory;
  #state: ConnectionState = { kind: 'idle' };
  #life: Scope | undefined;
  /** The work of the present life, and of all before it. Never rejects. */
  #work: Promise<void> = Promise.resolve();
  #link: Link | undefined;
  /** The one that messages come from: the present link, or one that is not up yet. */
  #source: Link | undefined;
  #isStopped = false;
  #failures = 0;
  #lastReason: string | undefined;

  /** Throws `config.no_broker` or `config.invalid` for a list of brokers that cannot be used. */
  constructor(options: ConnectionOptions) {
    this.#brokers = options.brokers.map(parseBrokerAddress);
    if (this.#brokers.length === 0)
      throw new AgentError('config.no_broker', 'there is no broker to connect to; set `broker`');
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    this.#backoff = options.backoff ?? { first: 1_000, cap: 120_000 };
    this.#log = options.log ?? silentLog;
    const sink = (error: unknown, name: string): void =>
      this.#log.error('connection.handler_failed', 'what was to be done on a signal failed', { signal: name, error });
    this.up = new Signal('connection.up', sink);
    this.down = new Signal('connection.down', sink);
    this.message = new Signal('connection.message', sink);
    this.#versions = new VersionMemory(options.protocolVersion ?? 'auto', () => this.#clock.monotonic());
    this.#settings = settingsFrom(options, this.#clock, this.#log, (delivery, link) => {
      this.#source = link;
      this.message.emit(delivery);
    });
  }

  get state(): ConnectionState {
    return this.#state;
  }

  /** The session while it is up. */
  get session(): Session | undefined {
    return this.#state.kind === 'up' ? this.#state.session : undefined;
  }

  /** Messages that were received on the present link and are not acknowledged to the broker. */
  get unacknowledged(): number {
    return this.#link?.unacknowledged ?? 0;
  }

  /** Begins to connect and does not wait for it. Once stopped it stays so. */
  start(): Promise<void> {
    if (this.#state.kind === 'idle') this.connect();
    return Promise.resolve();
  }

  /** Connects after a `disconnect()`, or at once when it waits for its next attempt. */
  connect(): void {
    if (this.#isStopped || (this.#life !== undefined && this.#state.kind !== 'waiting')) return;
    this.#life?.end(new LifeEnd('moving', 'connecting again by request', 0));
    this.#begin(0);
  }

  /** Writes the PUBACKs that are due, says goodbye (no will) and stays down until `connect()`. */
  async disconnect(): Promise<void> {
    this.#end(new LifeEnd('requested', 'disconnected by request; `connect` brings it back', undefined));
    await this.#work;
  }

  /** Disconnects cleanly, waits, connects. Resolves when the connection is down; the wait goes on by itself. */
  async reconnect(delay: Millis): Promise<void> {
    if (this.#isStopped) return;
    this.#end(new LifeEnd('requested', 'disconnected by request, to connect again', delay));
    const ended = this.#work;
    this.#begin(delay);
    await ended;
  }

  /**
   * Connects again at once with the present credentials and TLS material, keeping the session: cleanly, so that no
   * will is published. New TLS material that cannot be used changes nothing; the answer says why.
   */
  async renew(): Promise<{ kind: 'renewed' } | { kind: 'kept'; problem: string }> {
    const tls = this.#brokers.some((broker) => broker.isTls) ? this.#settings.tls.current() : undefined;
    if (tls?.problem !== undefined) return { kind: 'kept', problem: tls.problem };
    if (this.#life !== undefined && !this.#isStopped) {
      this.#end(new LifeEnd('moving', 'connecting again with new credentials', 0));
      const ended = this.#work;
      this.#begin(0);
      await ended;
    }
    return { kind: 'renewed' };
  }

  /** Flushes acknowledgements, says goodbye and releases all. Idempotent; works in the middle of an attempt. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#end(new LifeEnd('stopped', 'stopped', undefined));
    await this.#work;
    this.#state = { kind: 'stopped' };
  }

  /**
   * Publishes, by default with QoS 1. The caller keeps no more than `session.receiveMaximum` unanswered. Rejects with
   * `connection.closed` when the connection is not up or ends before the broker's answer.
   */
  publish(topic: string, payload: Buffer, options: PublishOptions = {}): Promise<PublishOutcome> {
    if (this.#state.kind === 'up' && this.#link !== undefined) return this.#link.publish(topic, payload, options);
    return Promise.reject(
      new AgentError('connection.closed', `cannot publish to ${topic}: the connection is ${this.#state.kind}`),
    );
  }

  /**
   * As `publish`, without a promise: `done` is called once with what came of it, perhaps before this returns, and does
   * not throw.
   */
  send(topic: string, payload: Payload, options: PublishOptions, done: (outcome: SendOutcome) => void): void {
    if (this.#state.kind === 'up' && this.#link !== undefined) this.#link.send(topic, payload, options, done);
    else done({ kind: 'cut' });
  }

  /**
   * Reads nothing more from the present link until `readOn`: what was read already is still announced. What waited in the
   * session comes before `up`, and is held back as well.
   */
  holdReading(): void {
    this.#source?.holdReading();
  }

  /** Ends what `holdReading` began. */
  readOn(): void {
    this.#source?.readOn();
  }

  /** Writes now the PUBACKs that are due, instead of at the end of this turn of the event loop. */
  flushAcks(): void {
    this.#link?.flushAcks();
  }

  #begin(delay: Millis): void {
    const life = new Scope();
    this.#life = life;
    const before = this.#work;
    this.#work = this.#live(before, life, delay);
  }

  #end(reason: LifeEnd): void {
    this.#life?.end(reason);
    this.#life = undefined;
    // Without a life there is no one else to say so.
    if (this.#state.kind === 'idle' && reason.retryIn === undefined) this.#state = { kind: 'down' };
  }

  async #live(before: Promise<void>, life: Scope, delay: Millis): Promise<void> {
    await before;
    const scope = life.signal;
    try {
      if (delay > 0) await this.#wait(delay, requestedDown(delay), scope);
      while (!scope.aborted) {
        const outcome = await this.#round(scope);
        const retryIn =
          outcome.kind === 'up' ? await this.#stayUp(outcome, scope) : this.#roundFailed(outcome.failures, scope);
        if (retryIn !== undefined) await this.#wait(retryIn.retryIn ?? 0, retryIn, scope);
      }
    } catch (error) {
      // Only the sleep rejects, when the life ends; anything else is a fault of ours, told and then begun again.
      if (!scope.aborted) {
        this.#log.error('connection.fault', 'an unexpected error ended the connection; it is begun again', { error });
        this.#begin(this.#backoff.cap);
      }
    }
    if (scope.aborted && this.#life === undefined) this.#state = { kind: 'down' };
  }

  /** One attempt at each broker, until one opens. */
  async #round(scope: AbortSignal): Promise<({ kind: 'up' } & Up) | { kind: 'failed'; failures: Failure[] }> {
    const failures: Failure[] = [];
    for (const [index, broker] of this.#brokers.entries()) {
      for (let isAgain = false; !scope.aborted; isAgain = true) {
        this.#state = { kind: 'connecting', broker: broker.text };
        const version = this.#versions.next(broker.text);
        this.#log.debug('connection.attempt', 'connecting', { broker: broker.text, version });
        const outcome = await attempt(broker, version, this.#settings, scope);
        if (outcome.kind === 'open') {
          this.#versions.learn(broker.text, 'answered');
          return { kind: 'up', link: outcome.link, session: outcome.session, index };
        }
        const isOtherVersion = this.#versions.learn(broker.text, outcome.failure.evidence);
        if (!isOtherVersion || isAgain) {
          failures.push(outcome.failure);
          break;
        }
        this.#log.info('connection.version', 'the broker does not take MQTT 5; trying 3.1.1', { broker: broker.text });
      }
    }
    return { kind: 'failed', failures };
  }

  /** Announces the session and stays until its end; what follows is told by the answer (undefined: the next round). */
  async #stayUp(up: Up, life: AbortSignal): Promise<Down | undefined> {
    const { link, session, index } = up;
    using scope = new Scope(life);
    const since = this.#clock.monotonic();
    this.#link = this.#source = link;
    const isEnded = life.aborted;
    if (!isEnded) {
      this.#state = { kind: 'up', session };
      this.#lastReason = undefined;
      this.#log.info('connection.up', 'connected to the broker', { ...session });
      this.up.emit(session);
    }
    const asked = new Promise<LifeEnd>((resolve) => {
      const onAbort = (): void => resolve(lifeEndOf(life));
      scope.signal.addEventListener('abort', onAbort, { once: true });
      if (life.aborted) onAbort();
      if (index > 0)
        this.#watchForFirst(scope.signal, () =>
          resolve(new LifeEnd('moving', `going back to ${this.#brokers[0]?.text ?? 'the first broker'}`, 0)),
        );
    });
    const cause = await Promise.race([asked, link.ended]);
    if (cause instanceof LifeEnd) await link.close();
    this.#link = this.#source = undefined;
    if (this.#clock.monotonic() - since >= STABLE_AFTER) this.#failures = 0;
    if (isEnded) return undefined;
    if (cause instanceof LifeEnd) {
      this.#announce({ code: cause.code, reason: cause.text, cause, retryIn: cause.retryIn, wasUp: true });
      return undefined;
    }
    const retryIn = fullJitter(this.#backoff, this.#failures++, this.#random);
    return this.#announce({ code: cause.code, reason: cause.reason, cause: cause.error, retryIn, wasUp: true });
  }

  #roundFailed(failures: readonly Failure[], scope: AbortSignal): Down | undefined {
    const last = failures.at(-1);
    if (scope.aborted || last === undefined) return undefined;
    const reason = failures.map((failure) => failure.reason).join(' ');
    const retryIn = fullJitter(this.#backoff, this.#failures++, this.#random);
    return this.#announce({ code: last.code, reason, cause: last.error, retryIn, wasUp: false });
  }

  /** Tells a change once: the same reason again and again is for the developer only. */
  #announce(down: Down): Down {
    const isNews = down.wasUp || down.reason !== this.#lastReason;
    this.#lastReason = down.reason;
    const fields = { reason: down.code, retryIn: down.retryIn };
    const isOurs = down.code === 'requested' || down.code === 'moving' || down.code === 'stopped';
    if (isOurs) this.#log.info('connection.down', down.reason, fields);
    else if (isNews) this.#log.warn(down.wasUp ? 'connection.lost' : 'connection.failed', down.reason, fields);
    else this.#log.debug('connection.failed', down.reason, fields);
    this.#state = { kind: 'connecting', broker: this.#brokers[0]?.text ?? '' };
    if (down.retryIn !== undefined && down.retryIn > 0)
      this.#state = { kind: 'waiting', until: this.#clock.now() + down.retryIn, down };
    this.down.emit(down);
    return down;
  }

  async #wait(delay: Millis, down: Down, scope: AbortSignal): Promise<void> {
    this.#state = { kind: 'waiting', until: this.#clock.now() + delay, down };
    await sleep(this.#clock, delay, scope);
  }

  /** While on a later broker: asks every ten minutes whether the first accepts a connection. */
  #watchForFirst(scope: AbortSignal, goBack: () => void): void {
    const first = this.#brokers[0];
    if (first === undefined) return;
    const look = async (): Promise<void> => {
      if (await probe(first, this.#settings, scope)) goBack();
      else this.#clock.after(PROBE_EVERY, () => void look(), scope);
    };
    this.#clock.after(PROBE_EVERY, () => void look(), scope);
  }
}

function lifeEndOf(scope: AbortSignal): LifeEnd {
  const reason: unknown = scope.reason;
  return reason instanceof LifeEnd ? reason : new LifeEnd('stopped', 'stopped', undefined);
}

function requestedDown(retryIn: Millis): Down {
  return { code: 'requested', reason: 'waiting by request', cause: undefined, retryIn, wasUp: false };
}

function settingsFrom(
  options: ConnectionOptions,
  clock: Clock,
  log: Log,
  onMessage: (delivery: Delivery, link: Link) => void,
): AttemptSettings {
  return {
    clientId: options.clientId,
    credentials: options.credentials ?? (() => ({})),
    tls: new TlsKeeper(options.tls ?? (() => undefined), () => clock.now()),
    will: options.will ?? (() => Promise.resolve(undefined)),
    proxy: options.proxy ?? (() => undefined),
    subscriptions: options.subscriptions ?? [],
    keepalive: options.keepalive ?? 60_000,
    sessionExpiry: options.sessionExpiry ?? 7 * 24 * 3_600_000,
    connectTimeout: options.connectTimeout ?? 30_000,
    maxMessageSize: options.maxMessageSize ?? 16 * 1024 * 1024,
    receiveMaximum: options.receiveMaximum ?? 256,
    clock,
    log,
    onMessage,
  };
}
