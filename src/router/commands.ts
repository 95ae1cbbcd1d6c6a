/**
 * Carries out what comes on `control/in` (PROTOCOL section 1, Commands), at once and ahead of all data. A command that
 * ends the connection is recorded before it takes effect: its PUBACK may be lost with the link, and it would come back
 * at every connect (CONTRACT 1.9).
 */
import { crashPoint } from '../crash-point.js';
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
import type { Clock, Millis } from '../time.js';
import type { Delivery, StorePort } from './ports.js';

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

export class Commands {
  readonly #options: CommandsOptions;
  /** Ids that are being carried out: a second copy may come before the first is recorded. */
  readonly #underWay = new Set<string>();

  constructor(options: CommandsOptions) {
    this.#options = options;
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
      await this.#execute(decoded.envelope, delivery);
    } catch (error) {
      log.error('command.failed', `the command ${quoted(command)} failed: ${errorText(error)}`, { messageId });
      delivery.ack();
    }
  }

  async #execute(envelope: CommandEnvelope, delivery: Delivery): Promise<void> {
    const { log } = this.#options;
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
      case 'cancel':
        await this.#cancel(instruction.directive, instruction.messageId);
        delivery.ack();
        return;
      case 'disconnect':
        await this.#once(messageId, delivery, async () => {
          log.info('command.disconnect', 'told to disconnect: idle until `ygg link up`, SIGHUP or a restart', {
            messageId,
          });
          this.#options.disconnectCommand.emit({ messageId });
          this.#tell('disconnect', messageId);
          await this.#options.disconnect();
        });
        return;
      case 'reconnect':
        await this.#once(messageId, delivery, async () => {
          const { delay } = instruction;
          log.info('command.reconnect', 'told to connect anew', { messageId, delay });
          await this.#options.reconnect(delay);
        });
    }
  }

  /** Runs what ends the link, unless that id did so before. */
  async #once(messageId: string, delivery: Delivery, act: () => Promise<void>): Promise<void> {
    const { store, log, flushAcks } = this.#options;
    if (this.#underWay.has(messageId) || store.isCommandRecorded(messageId)) {
      log.info('command.repeated', 'a command came again and is ignored: it was carried out before', { messageId });
      delivery.ack();
      return;
    }
    // Without an id it cannot be told from another; its PUBACK, flushed below, has to do.
    if (messageId !== '') {
      this.#underWay.add(messageId);
      try {
        await store.recordCommand(messageId);
      } finally {
        this.#underWay.delete(messageId);
      }
    }
    FAULT: crashPoint('command.recorded');
    delivery.ack();
    await flushAcks();
    await act();
  }

  async #cancel(directive: DirectiveKey, messageId: string): Promise<void> {
    const { store, log, dataCancel, answered } = this.#options;
    const cancellation = await store.cancel(directive, messageId);
    log.info('command.cancel', `told to cancel a message: ${cancellation.kind}`, { directive, messageId });
    if (cancellation.kind === 'in-flight') dataCancel.emit({ key: cancellation.key, directive, messageId });
    if (cancellation.kind === 'cancelled') answered();
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
