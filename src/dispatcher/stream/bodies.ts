/**
 * The bodies of one stream, both ways, with the Transfer that carries them while there is one. What is said before it is
 * there waits for it.
 */
import { status } from '@grpc/grpc-js';
import type { BodyCredit, Chunk } from '../../../protocol/generated/stream.js';
import type { DispatchStore } from '../ports.js';
import { IncomingBodies } from './incoming.js';
import { OutgoingBodies } from './outgoing.js';
import type { Transfer, TransferOwner } from './transfer.js';
import { Violation } from './violation.js';

export interface BodiesOptions {
  readonly store: Pick<DispatchStore, 'openContent' | 'newContentFile' | 'discardContentFile'>;
  /** Bodies of results that may be on the way at once. */
  readonly mostIncoming: number;
  /** The stream cannot go on: the worker broke a rule, or its Transfer ended with bodies under way. */
  readonly onBroken: (code: status, reason: string) => void;
}

export class Bodies {
  readonly incoming: IncomingBodies;
  readonly outgoing: OutgoingBodies;
  #transfer: Transfer | undefined;
  /** Said while there was no Transfer. */
  #credits: BodyCredit[] = [];

  constructor(private readonly options: BodiesOptions) {
    this.outgoing = new OutgoingBodies(options.store);
    this.incoming = new IncomingBodies({
      files: options.store,
      bodies: options.mostIncoming,
      credit: (credit) => {
        if (this.#transfer === undefined) this.#credits.push(credit);
        else this.#transfer.credit(credit);
      },
      onPressure: (isHigh) => this.#transfer?.hold(isHigh),
    });
  }

  /** A Transfer has shown the token. Throws a Violation when there is one already. */
  adopt(transfer: Transfer): TransferOwner {
    if (this.#transfer !== undefined) throw new Violation('the stream has a Transfer already');
    this.#transfer = transfer;
    for (const credit of this.#credits.splice(0)) transfer.credit(credit);
    this.outgoing.attach((chunk) => transfer.chunk(chunk));
    return {
      receive: (chunks, credits) => this.#receive(chunks, credits),
      ended: (violation) => this.#ended(violation),
    };
  }

  /** Ends the Transfer and forgets all bodies. */
  close(code: status, reason: string): void {
    const transfer = this.#transfer;
    this.#transfer = undefined;
    this.outgoing.close();
    this.incoming.close();
    transfer?.end(code, reason);
  }

  #receive(chunks: readonly Chunk[], credits: readonly BodyCredit[]): void {
    for (const credit of credits) this.outgoing.credit(credit);
    for (const chunk of chunks) this.incoming.chunk(chunk);
  }

  #ended(violation: string | undefined): void {
    if (this.#transfer === undefined) return;
    this.#transfer = undefined;
    this.outgoing.detach();
    if (violation !== undefined) this.options.onBroken(status.INVALID_ARGUMENT, violation);
    else if (this.incoming.count + this.outgoing.count > 0) {
      this.options.onBroken(status.ABORTED, 'Transfer ended while bodies were under way');
    }
  }
}
