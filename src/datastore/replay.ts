/**
 * A dead message is given another chance: a new record takes its place in one commit, with its content, so that it is
 * never in two places and never in none. Attempts and lifetime start anew, and `expires` is not heeded. Should it die
 * again, it is a dead letter again.
 */
import type { MessageKey } from '../message/index.js';
import type { ContentFiles } from './content-files.js';
import type { DeadLetters } from './dead-letters.js';
import type { InboundQueue } from './inbound-queue.js';
import type { OutboundQueue } from './outbound-queue.js';
import type { Replay } from './replay-outcome.js';

export class Replays {
  constructor(
    private readonly files: ContentFiles,
    private readonly dead: DeadLetters,
    private readonly inbound: InboundQueue,
    private readonly outbound: OutboundQueue,
  ) {}

  /** Rejects when it could not be committed; then the dead letter is as it was. */
  async replay(key: MessageKey): Promise<Replay> {
    const found = this.dead.get(key);
    const isWhole = found !== undefined && (await this.files.isWhole(found.content));
    // Looked up behind the wait: it may have been thrown away, or taken by another replay.
    const letter = this.dead.get(key);
    if (letter === undefined) return { kind: 'unknown' };
    if (!isWhole) return { kind: 'not-replayable', reason: 'its content file is missing' };
    switch (letter.origin.kind) {
      case 'refused':
        return { kind: 'not-replayable', reason: 'it was refused at the door: no worker can be given it' };
      case 'unknown':
        return { kind: 'not-replayable', reason: 'it was kept by an older version, which did not keep enough of it' };
      case 'inbound':
      case 'outbound': {
        const removal = this.dead.takeOut(letter);
        const queue = letter.origin.kind === 'inbound' ? this.inbound : this.outbound;
        const begun = queue.replay(letter, removal.changes);
        if (!('durable' in begun)) return begun;
        await begun.durable;
        removal.committed();
        queue.announce(begun.key);
        return { kind: 'replayed', key: begun.key };
      }
    }
  }
}
