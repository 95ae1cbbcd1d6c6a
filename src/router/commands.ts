/**
 * Carries out what comes on `control/in` (PROTOCOL section 1, Commands), at once and ahead of all data. A command that
 * ends the connection is recorded before it takes effect: its PUBACK may be lost with the link, and it would come back
 * at every connect (CONTRACT 1.9). What the disk cannot record yet is tried until it can, unacknowledged; when the link
 * ends first it is the broker's to send again, and what was recorded is carried out all the same.
 */
import { crashPoint } from '../crash-point.js';
import { setMaxListeners } from 'node:events';
import { errorText } from '../errors.js';
import type { Log } from '../log/log.js';
import {
  decodeCommand,
  directiveKey,
  encodeEvent,
  MAX_ID_LENGTH,
  newMessageId,
  parseDirective,
  quoted,
  type CommandEnvelope,
  type DirectiveKey,
  type EventName,
  type MessageKey,
} from '../message/index.js';
import type { Signal } from '../signal/index.js';
import { sleep, type Clock, type Millis } from '../time.js';
import type { Cancellation, Delivery, StorePort } from './ports.js';
import type { RouterSettings } from './settings.js';

/** Longest delay of a `reconnect`: a day. */
const MAX_DELAY: Millis = 86_400_000;

/** A request to give up a message that is with its worker already. */
export interface DataCancel {
  readonly key: MessageKey;
  readonly directive: DirectiveKey;
  readonly messageId: string;
}

export interface CommandsOptions {
  readonly store: Pick<StorePort, 'cancel' | 'recordCommand' | 'isCommandRecorded'>;
  readonly settings: Pick<RouterSettings, 'receiveMaximum' | 'roomInterval'>;
  readonly clock: Clock;
  readonly log: Log;
  readonly dataCancel: Signal<DataCancel>;
  readonly disconnectCommand: Signal<{ readonly messageId: string }>;
  /** Publishes an event on `control/out`, ahead of data. */
  readonly tell: (payload: Buffer) => void;
  /** Writes the PUBACKs that are due. */
  readonly flushAcks: () => Promise<void> | void;
  readonly disconnect: () => Promise<void>;
  readonly reconnect: (delay: Millis) => Promise<void>;
  /** An error answer was written to the store and wants to be published. */
  readonly answered: () => void;
}

/** What to do with a command, as far as that can be decided from its arguments. */
export type Instruction =
  | { readonly kind: 'ping' }
  | { readonly kind: 'disconnect' }
  | { readonly kind: 'reconnect'; readonly delay: Millis }
  | { readonly kind: 'cancel'; readonly directive: DirectiveKey; readonly messageId: string }
  | { readonly kind: 'refused'; readonly reason: string };

/** Reads a command's name and arguments. Pure. */
export function instructionOf({ command, arguments: given }: CommandEnvelope): Instruction {
  switch (command) {
    case 'ping':
      return { kind: 'ping' };
    case 'disconnect':
      return { kind: 'disconnect' };
    case 'reconnect': {
      const delay = delayOf(given['delay']);
      if (delay !== undefined) return { kind: 'reconnect', delay };
      return { kind: 'refused', reason: `its delay must be a number of seconds from 0 to ${MAX_DELAY / 1000}` };
    }
    case 'cancel': {
      const { directive, messageID } = given;
      const name = typeof directive === 'string' ? parseDirective(directive) : undefined;
      if (name === undefined) return { kind: 'refused', reason: 'its argument "directive" must name a directive' };
      if (typeof messageID !== 'string' || messageID === '' || messageID.length > MAX_ID_LENGTH) {
        return { kind: 'refused', reason: 'its argument "messageID" must be the id of a message' };
      }
      return { kind: 'cancel', directive: directiveKey(name), messageId: messageID };
    }
    default:
      return { kind: 'refused', reason: 'this agent knows no such command' };
  }
}

/** Seconds as number or numeric text, in milliseconds; undefined for what is no delay. Missing is none. */
function delayOf(given: unknown): Millis | undefined {
  if (given === undefined || given === null) return 0;
  const seconds = typeof given === 'string' && /^\s*\d+(\.\d+)?\s*$/.test(given) ? Number(given) : given;
  if (typeof seconds !== 'number' || !Number.isFinite(seconds) || seconds < 0) return undefined;
  return seconds * 1000 <= MAX_DELAY ? seconds * 1000 : undefined;
}

/** A command as it came. */
interface Received {
  readonly envelope: CommandEnvelope;
  readonly delivery: Delivery;
  /** Ends with the link it came by. */
  readonly link: AbortSignal;
}

/** What became of recording a command: `left` to the broker, since its link has ended. */
type Recorded = 'new' | 'known' | 'left';

export class Commands {
  readonly #options: CommandsOptions;
  /** Ids that are being recorded: a second copy may come before the first is. */
  readonly #recording = new Map<string, Promise<Recorded>>();
  /** Commands that could not be recorded yet. */
  #waiting = 0;
  /** Ends with the link. */
  #link = newLink();
  #scope: AbortSignal = AbortSignal.abort();

  constructor(options: CommandsOptions) {
    this.#options = options;
  }

  /** Begins to try again what could not be recorded; ends with the scope. */
  start(scope: AbortSignal): void {
    this.#scope = scope;
    scope.addEventListener('abort', () => this.linkDown(), { once: true });
  }

  /** The link has ended: what was not acknowledged on it comes again on the next. */
  linkDown(): void {
    this.#link.abort();
    this.#link = newLink();
  }

  /** Takes a delivery of `control/in`. Resolves when it has taken effect; never rejects. */
  async take(delivery: Delivery): Promise<void> {
    const { log } = this.#options;
    const problem = problemOf(delivery);
    if (problem !== undefined) {
      log.warn('command.ignored', `a command is ignored: ${problem}`, { topic: delivery.topic });
      delivery.ack();
      return;
    }
    const decoded = decodeCommand(delivery.payload);
    if (decoded.kind === 'malformed') {
      const { messageId, reason } = decoded;
      log.warn('command.malformed', `a command cannot be read: ${reason}`, { topic: delivery.topic, messageId });
      delivery.ack();
      return;
    }
    const { messageId, command } = decoded.envelope;
    try {
      await this.#execute({ envelope: decoded.envelope, delivery, link: this.#link.signal });
    } catch (error) {
      log.error('command.failed', `the command ${quoted(command)} failed: ${errorText(error)}`, { messageId });
    }
  }

  async #execute(received: Received): Promise<void> {
    const { log } = this.#options;
    const { envelope, delivery } = received;
    const { messageId, command } = envelope;
    const instruction = instructionOf(envelope);
    switch (instruction.kind) {
      case 'refused':
        log.warn('command.refused', `the command ${quoted(command)} is refused: ${instruction.reason}`, { messageId });
        delivery.ack();
        return;
      case 'ping':
        this.#tell('pong', messageId);
        delivery.ack();
        return;
      case 'cancel': {
        const { directive, messageId: cancelled } = instruction;
        const isDone = await this.#untilRecorded(received, async () => {
          await this.cancel(directive, cancelled);
        });
        if (isDone) delivery.ack();
        return;
      }
      case 'disconnect':
        await this.#once(received, async () => {
          log.info('command.disconnect', 'told to disconnect: idle until `ygg link up`, SIGHUP or a restart', {
            messageId,
          });
          this.#options.disconnectCommand.emit({ messageId });
          this.#tell('disconnect', messageId);
          await this.#options.disconnect();
        });
        return;
      case 'reconnect':
        await this.#once(received, async () => {
          const { delay } = instruction;
          log.info('command.reconnect', 'told to connect anew', { messageId, delay });
          await this.#options.reconnect(delay);
        });
    }
  }

  /** Runs what ends the link, unless that id did so before. */
  async #once(received: Received, act: () => Promise<void>): Promise<void> {
    const { delivery, envelope } = received;
    const { messageId } = envelope;
    // Without an id it cannot be told from another; its PUBACK, flushed below, has to do.
    const recorded = messageId === '' ? 'new' : await this.#recordOnce(received);
    if (recorded === 'left') return;
    if (recorded === 'known') {
      const text = 'a command came again and is ignored: it was carried out before';
      this.#options.log.info('command.repeated', text, { messageId });
      delivery.ack();
      return;
    }
    FAULT: crashPoint('command.recorded');
    delivery.ack();
    await this.#options.flushAcks();
    await act();
  }

  /** Records the id of a command; `new` for the first copy of it alone. */
  async #recordOnce(received: Received): Promise<Recorded> {
    const { store } = this.#options;
    const { messageId } = received.envelope;
    for (let first = this.#recording.get(messageId); first !== undefined; first = this.#recording.get(messageId)) {
      // The link of the first copy may end before it is recorded: then this one takes its place.
      if ((await first) !== 'left') return 'known';
    }
    let isKnown = false;
    const recording = this.#untilRecorded(received, async () => {
      isKnown = store.isCommandRecorded(messageId);
      if (!isKnown) await store.recordCommand(messageId);
    }).then((isDone): Recorded => (!isDone ? 'left' : isKnown ? 'known' : 'new'));
    this.#recording.set(messageId, recording);
    const recorded = await recording;
    this.#recording.delete(messageId);
    return recorded;
  }

  /** Runs `record` until it succeeds; false when the link ended first, or too many wait already. Never rejects. */
  async #untilRecorded({ envelope, delivery, link }: Received, record: () => Promise<void>): Promise<boolean> {
    const { log, clock, settings } = this.#options;
    const { messageId, command } = envelope;
    // At QoS 0 nobody sends it again.
    const scope = delivery.qos === 0 ? this.#scope : link;
    for (let failures = 0; ; failures++) {
      try {
        await record();
        return true;
      } catch (error) {
        const text = `cannot record the command ${quoted(command)}: ${errorText(error)}; it is tried again`;
        log[failures === 0 ? 'error' : 'debug']('command.not_recorded', text, { messageId });
      }
      // Beyond the bound the broker keeps it: it was not acknowledged.
      if (this.#waiting >= settings.receiveMaximum) return false;
      this.#waiting += 1;
      const isOver = await hasEnded(clock, settings.roomInterval, scope);
      this.#waiting -= 1;
      if (isOver) return false;
    }
  }

  /** Ends a message that is not done, or asks its worker to give it up. Rejects while the journal cannot be written. */
  async cancel(directive: DirectiveKey, messageId: string): Promise<Cancellation> {
    const { store, log, dataCancel, answered } = this.#options;
    const cancellation = await store.cancel(directive, messageId);
    log.info('command.cancel', `told to cancel a message: ${cancellation.kind}`, { directive, messageId });
    if (cancellation.kind === 'in-flight') dataCancel.emit({ key: cancellation.key, directive, messageId });
    if (cancellation.kind === 'cancelled') answered();
    return cancellation;
  }

  #tell(event: EventName, responseTo: string): void {
    const { clock, tell } = this.#options;
    tell(encodeEvent(newMessageId(), responseTo, new Date(clock.now()).toISOString(), event));
  }
}

/** Why a delivery is no command to be read, or undefined. */
function problemOf(delivery: Delivery): string | undefined {
  if (delivery.retain) return 'it is retained, so it was meant for another time';
  if (delivery.payload.length === 0) return 'it is empty';
  if (delivery.truncatedFrom !== undefined) return `it has ${delivery.truncatedFrom} bytes, which is too large`;
  return undefined;
}

/** The scope of a link, on which many commands may wait. */
function newLink(): AbortController {
  const link = new AbortController();
  setMaxListeners(0, link.signal);
  return link;
}

/** Whether `scope` ends within `delay`. */
async function hasEnded(clock: Clock, delay: Millis, scope: AbortSignal): Promise<boolean> {
  return sleep(clock, delay, scope).then(
    () => false,
    () => true,
  );
}
