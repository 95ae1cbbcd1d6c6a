/**
 * The transport of workers as they were made for the original: Dispatcher.Register, a server of the worker's own whose
 * Worker.Send brings each message, Dispatcher.Send for each reply. A call is answered only after the handler is done
 * and the agent has accepted every reply; that answer is the receipt (CONTRACT 1.2).
 */
import { Server, type ServerUnaryCall, type sendUnaryData, status } from '@grpc/grpc-js';
import { HealthService } from '../../protocol/generated/health.js';
import {
  type Data,
  type EventNotification,
  type EventReceipt,
  type Response,
  WorkerService,
} from '../../protocol/generated/yggdrasil.js';
import { errorText } from '../errors.js';
import type { Log } from '../log/log.js';
import type { AgentLink } from './agent-link.js';
import type { Completed, Delivery, RefusalKind } from './delivery.js';
import { Health } from './health.js';
import { Listener } from './listener.js';
import type { Runs } from './runs.js';
import type { SessionEnd, Transport } from './transport.js';

export interface UnaryOptions {
  readonly link: AgentLink;
  readonly runs: Runs;
  readonly log: Log;
  readonly onEvent: (event: EventNotification) => void;
}

/** Calls that may wait at once; more wait on the agent's side. */
const MOST_CALLS = 1_024;
/** Lane of all: a unary call does not tell its priority, and the agent holds the order. */
const PRIORITY = 5;
const CODES: Readonly<Record<RefusalKind, status>> = {
  failed: status.INTERNAL,
  unavailable: status.UNAVAILABLE,
  invalid: status.INVALID_ARGUMENT,
  cancelled: status.CANCELLED,
};

export class UnaryTransport implements Transport {
  readonly name = 'unary';
  #health = new Health();
  #listener: Listener | undefined;

  constructor(private readonly options: UnaryOptions) {}

  async session(onUp: () => void, stop: AbortSignal): Promise<SessionEnd> {
    const { link } = this.options;
    try {
      const answer = await link.register(stop);
      if (answer.kind !== 'registered') return answer;
      this.#listener ??= new Listener(this.#createServer());
      await this.#listener.listen(answer.address);
      onUp();
      await link.lost(stop);
      return { kind: 'lost', reason: 'the connection is down', wasUseful: true };
    } catch (error) {
      if (stop.aborted) return { kind: 'stopped' };
      return { kind: 'deaf', error: error instanceof Error ? error : new Error(errorText(error)) };
    }
  }

  send(data: Data): Promise<void> {
    return this.options.link.send(data);
  }

  async close(hard: AbortSignal): Promise<void> {
    this.#health.stop();
    this.#health = new Health();
    const listener = this.#listener;
    this.#listener = undefined;
    await listener?.close(hard);
  }

  #createServer(): Server {
    const server = new Server({
      // Only the agent can connect, and it holds to what was announced or to what this worker's file says.
      'grpc.max_receive_message_length': -1,
      'grpc.max_send_message_length': -1,
      'grpc.max_concurrent_streams': MOST_CALLS,
    });
    server.addService(HealthService, this.#health.service());
    server.addService(WorkerService, {
      send: (call: ServerUnaryCall<Data, Response>, done: sendUnaryData<Response>) => {
        const { runs } = this.options;
        const delivery = new UnaryDelivery(call.request, done, this.options);
        const run = runs.take(delivery);
        // The agent is gone, and nobody hears the answer: the message comes again, and joins its run.
        if (run !== undefined) call.on('cancelled', () => runs.lose([{ run, delivery }]));
      },
      notifyEvent: (call: ServerUnaryCall<EventNotification, EventReceipt>, done: sendUnaryData<EventReceipt>) => {
        done(null, {});
        this.options.onEvent(call.request);
      },
    });
    return server;
  }
}

/** One call of Worker.Send. */
class UnaryDelivery implements Delivery {
  readonly priority = PRIORITY;
  readonly body = undefined;

  constructor(
    readonly data: Data,
    private readonly done: sendUnaryData<Response>,
    private readonly options: UnaryOptions,
  ) {}

  async complete(replies: readonly Data[], completed: Completed): Promise<void> {
    const { link } = this.options;
    try {
      for (const reply of replies) await link.send(reply);
    } catch (error) {
      completed.rejected(error instanceof Error ? error : new Error(errorText(error)));
      return;
    }
    this.done(null, { response: Buffer.alloc(0) });
    completed.settled();
  }

  refuse(kind: RefusalKind, reason: string): void {
    this.done({ code: CODES[kind], details: reason });
  }
}
