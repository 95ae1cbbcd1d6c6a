/** The way to the agent for replies that go before their handler is done: by the transport that is up, or the next one. */
import type { Data } from '../../protocol/generated/yggdrasil.js';
import { abortReason } from '../time.js';
import { AgentLost } from './delivery.js';
import type { Transport } from './transport.js';

export class Exchange {
  #current: Transport | undefined;
  #isClosed = false;
  #waiting: (() => void)[] = [];

  /** A session has begun. */
  up(transport: Transport): void {
    this.#current = transport;
    for (const go of this.#waiting.splice(0)) go();
  }

  /** The agent is gone. */
  down(): void {
    this.#current = undefined;
  }

  /** No session comes any more: what cannot go by the one that is there is given up. */
  close(): void {
    this.#isClosed = true;
    for (const go of this.#waiting.splice(0)) go();
  }

  /** Resolves when an agent has it safe. Rejects with what the agent says of it, and when `scope` ends. */
  async send(data: Data, scope: AbortSignal): Promise<void> {
    for (;;) {
      const transport = await this.#next(scope);
      try {
        await transport.send(data, scope);
        return;
      } catch (error) {
        if (!(error instanceof AgentLost)) throw error;
        if (this.#current === transport) this.#current = undefined;
      }
    }
  }

  async #next(scope: AbortSignal): Promise<Transport> {
    for (;;) {
      if (scope.aborted) throw abortReason(scope);
      if (this.#current !== undefined) return this.#current;
      if (this.#isClosed) throw new AgentLost('the agent is gone, and the worker stops');
      await new Promise<void>((resolve) => {
        const go = (): void => {
          scope.removeEventListener('abort', go);
          resolve();
        };
        this.#waiting.push(go);
        scope.addEventListener('abort', go, { once: true });
      });
    }
  }
}
