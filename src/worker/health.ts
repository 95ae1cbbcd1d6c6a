/**
 * The health service (grpc.health.v1) of a worker: SERVING from its first moment until it stops. What it proves is
 * that the event loop still turns. A watcher hears the change to NOT_SERVING, and then its stream ends.
 */
import { type sendUnaryData, type ServerUnaryCall, type ServerWritableStream, status } from '@grpc/grpc-js';
import {
  type HealthCheckRequest,
  type HealthCheckResponse,
  HealthCheckResponse_ServingStatus as Serving,
  type HealthServer,
} from '../../protocol/generated/health.js';

type Watcher = ServerWritableStream<HealthCheckRequest, HealthCheckResponse>;

/** `''` asks for the whole server (the health protocol); the other is the only service here. */
const SERVICES = new Set(['', 'yggdrasil.Worker']);

export class Health {
  #status: Serving = Serving.SERVING;
  readonly #watchers = new Set<Watcher>();

  /** The handlers to give to a gRPC server. */
  service(): HealthServer {
    return {
      check: (
        call: ServerUnaryCall<HealthCheckRequest, HealthCheckResponse>,
        done: sendUnaryData<HealthCheckResponse>,
      ) => {
        if (SERVICES.has(call.request.service)) done(null, { status: this.#status });
        else done({ code: status.NOT_FOUND, details: `no service ${call.request.service} here` });
      },
      watch: (call: Watcher) => {
        call.write({ status: SERVICES.has(call.request.service) ? this.#status : Serving.SERVICE_UNKNOWN });
        if (this.#status !== Serving.SERVING) {
          call.end();
          return;
        }
        this.#watchers.add(call);
        call.on('cancelled', () => this.#watchers.delete(call));
      },
    };
  }

  /** From now on NOT_SERVING; ends all watches, so that the server can close. Idempotent. */
  stop(): void {
    this.#status = Serving.NOT_SERVING;
    for (const watcher of this.#watchers) {
      if (SERVICES.has(watcher.request.service)) watcher.write({ status: this.#status });
      watcher.end();
    }
    this.#watchers.clear();
  }
}
