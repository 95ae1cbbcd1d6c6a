/**
 * Tells the world whether this agent is there and what it can do (PROTOCOL section 1, Presence). One status is made at
 * a time; what changes while one is under way makes another after it, so the last one published is the truth. `sent`
 * is reserved durably for each, the will included, and never goes backwards.
 */
import {
  encodeConnectionStatus,
  newMessageId,
  type CanonicalFacts,
  type ConnectionState,
  type Dispatchers,
} from '../message/index.js';
import { errorText } from '../errors.js';
import type { Log } from '../log/log.js';
import { sleep, type Clock, type Millis } from '../time.js';
import type { Link, Publication } from './link.js';
import type { Identity, StorePort, Will } from './ports.js';
import type { RouterSettings } from './settings.js';
import { dispatchersOf, type DispatcherMap } from './dispatchers.js';
import type { Topics } from './topics.js';

/** What the agent calls itself in a status. */
const CLIENT_NAME = 'yggd';

const NO_FACTS: CanonicalFacts = {
  insights_id: '',
  machine_id: '',
  bios_uuid: '',
  subscription_manager_id: '',
  ip_addresses: [],
  mac_addresses: [],
  fqdn: '',
};

export interface PresenceOptions {
  readonly store: Pick<StorePort, 'reserveSent' | 'workers'>;
  readonly topics: Topics;
  readonly identity: Identity;
  readonly settings: RouterSettings;
  readonly clock: Clock;
  readonly log: Log;
}

/** The wait after a fault of the disk. */
const RETRY_AFTER_FAULT: Millis = 10_000;

export class Presence {
  readonly #options: PresenceOptions;
  #link: Link | undefined;
  /** The handlers that the last status told; undefined while one is due that has not read them. */
  #told: DispatcherMap | undefined;
  /** A status is wanted that has not been begun. */
  #isDue = false;
  #isTelling = false;

  constructor(options: PresenceOptions) {
    this.#options = options;
  }

  /** A new link: tells `online` now, once more a little later, and then at every interval. */
  linkUp(link: Link): void {
    const { clock, settings } = this.#options;
    this.#link = link;
    this.announce();
    if (settings.repeatOnlineAfter > 0) clock.after(settings.repeatOnlineAfter, () => this.announce(), link.scope);
    if (settings.statusInterval > 0) this.#tellAtIntervals(link);
  }

  /** The link has ended, or is about to after `offline`. */
  linkDown(): void {
    this.#link = undefined;
    this.#isDue = false;
  }

  /** Tells `online` as soon as the status under way, if any, is through. Without a link it does nothing: `up` will. */
  announce(): void {
    if (this.#link === undefined) return;
    this.#isDue = true;
    // The next status reads whatever changes until then.
    this.#told = undefined;
    if (!this.#isTelling) void this.#tell();
  }

  /** Workers came or went: tells it if the dispatchers map really changed. */
  workersChanged(): void {
    if (this.#told === undefined) return;
    if (dispatchersOf(this.#options.store.workers.all()).text !== this.#told.text) this.announce();
  }

  /** The will for the next attempt to connect: `offline`, without dispatchers. */
  async will(): Promise<Will> {
    const { topic, payload, retain } = await this.#status('offline', () => ({}));
    return { topic, payload, retain };
  }

  /** Tells `offline` on `link`, after everything told before; waits for its PUBACK, but not for ever. */
  async goOffline(link: Link): Promise<void> {
    const { clock, settings, log } = this.#options;
    this.linkDown();
    const done = new AbortController();
    const told = this.#status('offline', () => ({}))
      .then((publication) => link.control(publication))
      .catch((error: unknown) => this.#failed(error));
    const patience = sleep(clock, settings.offlineTimeout, AbortSignal.any([link.scope, done.signal])).then(
      () => log.warn('presence.offline_unacknowledged', 'the broker did not acknowledge the offline status in time'),
      () => undefined,
    );
    await Promise.race([told, patience]);
    done.abort();
  }

  #tellAtIntervals(link: Link): void {
    const { clock, settings } = this.#options;
    clock.after(
      settings.statusInterval,
      () => {
        this.announce();
        this.#tellAtIntervals(link);
      },
      link.scope,
    );
  }

  /** Publishes one status after the other until none is due. */
  async #tell(): Promise<void> {
    this.#isTelling = true;
    try {
      while (this.#isDue && this.#link !== undefined) {
        this.#isDue = false;
        await this.#tellOnce(this.#link);
      }
    } catch (error) {
      this.#failed(error);
      // The truth has to come out all the same, when the disk can be written again.
      const scope = this.#link?.scope ?? AbortSignal.abort();
      this.#options.clock.after(RETRY_AFTER_FAULT, () => this.announce(), scope);
    } finally {
      this.#isTelling = false;
    }
  }

  async #tellOnce(link: Link): Promise<void> {
    const publication = await this.#status('online', () => {
      // Noted in the turn it is read: whatever changes later differs from it, and is told by the next status.
      this.#told = dispatchersOf(this.#options.store.workers.all());
      return this.#told.dispatchers;
    });
    if (this.#link !== link) return;
    const outcome = await link.control(publication);
    if (outcome.kind === 'acknowledged' && outcome.reasonCode < 0x80) return;
    const { log, topics } = this.#options;
    const reason = outcome.kind === 'acknowledged' ? `reason code ${outcome.reasonCode}` : outcome.kind;
    const todo: Record<typeof outcome.kind, string> = {
      acknowledged: `allow this client to write to ${topics.controlOut} in the broker’s rules`,
      'too-large': 'make tags and facts smaller, or let the broker take larger packets',
      cut: 'it is told again with the next connection',
    };
    log.warn('presence.not_told', `the broker did not take the connection-status (${reason}): ${todo[outcome.kind]}`, {
      reason,
    });
  }

  /** A status as it stands when it is made: what can change is read last, in one turn. */
  async #status(state: ConnectionState, dispatchers: () => Dispatchers): Promise<Publication & Will> {
    const { identity, clock, settings, store, topics } = this.#options;
    const canonicalFacts = await this.#facts();
    const sent = await store.reserveSent(clock.now());
    const payload = encodeConnectionStatus(newMessageId(), new Date(sent).toISOString(), {
      canonicalFacts,
      dispatchers: dispatchers(),
      state,
      tags: identity.tags(),
      clientName: CLIENT_NAME,
      clientVersion: identity.version,
    });
    return { topic: topics.controlOut, payload, qos: 1, retain: settings.retainStatus };
  }

  /** A source that fails gives empty values, never no status (the original stays mute on such a host). */
  async #facts(): Promise<CanonicalFacts> {
    try {
      return await this.#options.identity.facts();
    } catch (error) {
      this.#options.log.warn('presence.facts_failed', `cannot collect the facts: ${errorText(error)}`);
      return NO_FACTS;
    }
  }

  #failed(error: unknown): void {
    this.#options.log.error('presence.failed', `cannot publish the connection-status: ${errorText(error)}`);
  }
}
