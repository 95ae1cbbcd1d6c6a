/**
 * What one worker has registered: who may, what is held while the worker is away, and when it is dropped. A handler is
 * held from the moment it is granted, before anything is written: of two workers that ask at once, one gets it.
 */
import type { RegistrationRequest } from '../../protocol/generated/yggdrasil.js';
import type { Directive, DirectiveKey, WorkerName } from '../message/ids.js';
import type { Metadata } from '../message/envelope.js';
import type { Log } from '../log/log.js';
import type { Clock } from '../time.js';
import { claimedPid, featuresFrom } from './codec.js';
import type { Link } from './link-port.js';
import type { RegistrationDecision } from './plan.js';
import type { DispatchLimits, DispatchStore } from './ports.js';

export interface RegistrationsOptions {
  readonly name: WorkerName;
  readonly store: Pick<DispatchStore, 'claim' | 'workers'>;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: Pick<DispatchLimits, 'metadataSize' | 'absenceGrace'>;
  readonly decide: (handler: string) => RegistrationDecision;
  /** Its file binds a handler that another worker holds. */
  readonly onTake: (directive: DirectiveKey, from: WorkerName) => void;
  readonly onUnregister: (directive: Directive) => void;
}

export interface Registration {
  readonly key: DirectiveKey;
  readonly directive: Directive;
  readonly features: Metadata;
  readonly detachedContent: boolean;
  readonly pid: number | undefined;
  /** By which kind of link the worker wants its messages. */
  readonly transport: Link['transport'];
  /** Set while the worker is gone: ends when it has registered again. */
  absence: AbortController | undefined;
}

export type Granting =
  | { readonly kind: 'granted'; readonly registration: Registration }
  | { readonly kind: 'refused'; readonly reason: string };

/** Of one incarnation. */
const MOST_REFUSALS_TOLD = 20;

export class Registrations {
  readonly #held = new Map<DirectiveKey, Registration>();
  #keys: readonly DirectiveKey[] | undefined;
  /** Why the present incarnation was refused, as far as that was told: a worker asks again and again. */
  readonly #refusals = new Set<string>();

  constructor(private readonly options: RegistrationsOptions) {}

  /** A list that is made anew when it changes: it is asked for with each result. */
  get keys(): readonly DirectiveKey[] {
    return (this.#keys ??= [...this.#held.keys()]);
  }

  get all(): Registration[] {
    return [...this.#held.values()];
  }

  get(directive: DirectiveKey): Registration | undefined {
    return this.#held.get(directive);
  }

  /**
   * Decides on a handler and holds it, in place of what was registered for it before; when `ready` (and the note of who
   * owns it) fails, it is as it was. Rejects then.
   */
  async grant(
    request: RegistrationRequest,
    transport: Link['transport'],
    ready: () => Promise<void> | void,
  ): Promise<Granting> {
    const { name, store, limits } = this.options;
    const features = featuresFrom(request, limits.metadataSize);
    const decision: RegistrationDecision =
      features === undefined
        ? { kind: 'refused', reason: `its features are larger than ${limits.metadataSize} bytes` }
        : this.options.decide(request.handler);
    const pid = claimedPid(request);
    if (decision.kind === 'refused' || features === undefined) {
      const reason = decision.kind === 'refused' ? decision.reason : '';
      this.#tellRefused(reason, pid);
      return { kind: 'refused', reason };
    }
    const { directive, directiveKey: key, takenFrom } = decision;
    if (takenFrom !== undefined) this.options.onTake(key, takenFrom);
    const before = this.#held.get(key);
    before?.absence?.abort();
    const { detachedContent } = request;
    const registration: Registration = {
      key,
      directive,
      features,
      detachedContent,
      pid,
      transport,
      absence: undefined,
    };
    this.#hold(registration);
    try {
      if (decision.isNewOwner) await store.claim(key, name);
      await ready();
    } catch (error) {
      if (before === undefined) this.#release(key);
      throw error;
    }
    return { kind: 'granted', registration };
  }

  /** One line for each reason, however often the worker asks. */
  #tellRefused(reason: string, pid: number | undefined): void {
    const { name, log } = this.options;
    const isNews = !this.#refusals.has(reason) && this.#refusals.size < MOST_REFUSALS_TOLD;
    if (isNews) this.#refusals.add(reason);
    const level = isNews ? 'warn' : 'debug';
    log[level]('dispatcher.registration_refused', `the worker ${name} may not register: ${reason}`, { pid });
  }

  /** The worker's process has ended. A crash loop must not flood the broker: then handlers go only when it stays away. */
  absent(isForGood: boolean): void {
    this.#refusals.clear();
    for (const registration of this.all) {
      if (isForGood) this.drop(registration);
      else this.#dropLater(registration);
    }
  }

  #dropLater(registration: Registration): void {
    if (registration.absence !== undefined) return;
    const absence = new AbortController();
    registration.absence = absence;
    const { clock, limits } = this.options;
    clock.after(limits.absenceGrace, () => this.drop(registration), absence.signal);
  }

  drop(registration: Registration): void {
    registration.absence?.abort();
    // Whatever took its place stays.
    if (this.#held.get(registration.key) === registration) this.#release(registration.key);
    this.record(undefined);
    this.options.onUnregister(registration.directive);
  }

  /** Shows in the store what is registered. */
  record(pid: number | undefined): void {
    const { store, name } = this.options;
    const handlers = this.all.map(({ directive, features, detachedContent }) => ({
      directive,
      features,
      detachedContent,
    }));
    store.workers.put({ id: name, pid, handlers, state: handlers.length > 0 ? 'registered' : 'gone' });
  }

  /** Forgets everything, and tells nobody. */
  clear(): void {
    for (const { absence } of this.#held.values()) absence?.abort();
    this.#held.clear();
    this.#keys = undefined;
  }

  #hold(registration: Registration): void {
    this.#held.set(registration.key, registration);
    this.#keys = undefined;
  }

  #release(directive: DirectiveKey): void {
    this.#held.delete(directive);
    this.#keys = undefined;
  }
}
