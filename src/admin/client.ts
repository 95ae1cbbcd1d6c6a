/** The operator's end of admin.proto: one connection to the agent of this machine. */
import { connect } from 'node:net';
import {
  type CallOptions,
  type ClientReadableStream,
  credentials,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import {
  AdminClient as Stub,
  type AgentStatus,
  type Facts,
  type HandlerReleased,
  type LogBatch,
  type LogRequest,
  type DispatchEvent,
  type DispatchRequest,
  type EventBatch,
  type Message,
  type MessageFilter,
  type OutputBatch,
  type OutputRequest,
  type Reloaded,
  type Replayed,
  type RunningConfig,
  type WorkerStarted,
  type WorkerStopped,
  type Trace,
} from '../../protocol/generated/admin.js';
import { AgentError, errnoOf, errorText } from '../errors.js';

const ANSWER_WITHIN_MS = 30_000;
/** A worker may take its time to stop: its `stop-timeout`. */
const STOP_WITHIN_MS = 600_000;
const MAX_ANSWER = 64 * 1024 * 1024;

type Unary<A> = (
  metadata: Metadata,
  options: CallOptions,
  callback: (error: ServiceError | null, answer: A) => void,
) => unknown;

export class AdminClient implements Disposable {
  private constructor(private readonly stub: Stub) {}

  /** Throws `admin.not_running` where no agent listens, and `admin.forbidden` where this user may not ask it. */
  static async connect(path: string): Promise<AdminClient> {
    await knock(path);
    const options = { 'grpc.max_receive_message_length': MAX_ANSWER };
    return new AdminClient(new Stub(`unix:${path}`, credentials.createInsecure(), options));
  }

  [Symbol.dispose](): void {
    this.stub.close();
  }

  status(): Promise<AgentStatus> {
    return call((...rest) => this.stub.getStatus({}, ...rest));
  }

  async restartWorker(name: string): Promise<void> {
    await call((...rest) => this.stub.restartWorker({ name }, ...rest));
  }

  /** Resolves when nothing of the worker runs any more. */
  stopWorker(name: string): Promise<WorkerStopped> {
    return call((...rest) => this.stub.stopWorker({ name }, ...rest), STOP_WITHIN_MS);
  }

  startWorker(name: string): Promise<WorkerStarted> {
    return call((...rest) => this.stub.startWorker({ name }, ...rest));
  }

  releaseHandler(handler: string): Promise<HandlerReleased> {
    return call((...rest) => this.stub.releaseHandler({ handler }, ...rest));
  }

  /** What a worker wrote, and what it writes if that is wanted. */
  output(request: OutputRequest): AsyncGenerator<OutputBatch, void, void> {
    return streamed<OutputBatch>(this.stub.readOutput(request));
  }

  /** The lines of the agent's log; the first batch comes at once, also without a line. */
  log(request: LogRequest): AsyncGenerator<LogBatch, void, void> {
    return streamed<LogBatch>(this.stub.readLog(request));
  }

  config(): Promise<RunningConfig> {
    return call((...rest) => this.stub.getConfig({}, ...rest));
  }

  reload(): Promise<Reloaded> {
    return call((...rest) => this.stub.reload({}, ...rest));
  }

  facts(): Promise<Facts> {
    return call((...rest) => this.stub.getFacts({}, ...rest));
  }

  /** All that the filter lets through, as it comes. */
  messages(filter: MessageFilter): AsyncGenerator<Message, void, void> {
    return streamed<Message>(this.stub.listMessages(filter));
  }

  message(key: bigint): Promise<Message> {
    return call((...rest) => this.stub.getMessage({ key }, ...rest));
  }

  /** The key that it has from now on. */
  async replay(key: bigint): Promise<bigint> {
    return (await call<Replayed>((...rest) => this.stub.replayMessage({ key }, ...rest))).key;
  }

  /** Whether its worker has it in hand and was asked to give it up; else it has ended. */
  async cancel(key: bigint): Promise<{ readonly isAsked: boolean }> {
    return call((...rest) => this.stub.cancelMessage({ key }, ...rest));
  }

  /** First what became of it; then its answers where they are waited for. `scope` ends it. */
  dispatch(request: DispatchRequest, scope: AbortSignal): AsyncGenerator<DispatchEvent, void, void> {
    return streamed<DispatchEvent>(this.stub.dispatch(request), scope);
  }

  /** The answers to a message that was dispatched here. */
  answers(messageId: string, wait: boolean, scope: AbortSignal): AsyncGenerator<DispatchEvent, void, void> {
    return streamed<DispatchEvent>(this.stub.collectAnswers({ messageId, wait }), scope);
  }

  /** An answer has come to whoever wanted it, and need not be kept. */
  async acknowledgeAnswer(key: bigint): Promise<void> {
    await call((...rest) => this.stub.acknowledgeAnswer({ key }, ...rest));
  }

  trace(id: string): Promise<Trace> {
    return call((...rest) => this.stub.traceMessage({ id }, ...rest));
  }

  /** What happens, until `scope` ends. The first batch is empty: nothing is missed from then on. */
  events(notable: boolean, scope: AbortSignal): AsyncGenerator<EventBatch, void, void> {
    return streamed<EventBatch>(this.stub.watchEvents({ notable }), scope);
  }

  async setLink(isUp: boolean): Promise<void> {
    await call((...rest) => this.stub.setLink({ isUp }, ...rest));
  }
}

/** All that a stream brings. It is over when `scope` ends, and that is no error. */
async function* streamed<A>(stream: ClientReadableStream<A>, scope?: AbortSignal): AsyncGenerator<A, void, void> {
  const cancel = (): void => stream.cancel();
  scope?.addEventListener('abort', cancel);
  try {
    if (scope?.aborted !== true) for await (const each of stream) yield each as A;
  } catch (error) {
    if (scope?.aborted !== true) throw refusal(error);
  } finally {
    scope?.removeEventListener('abort', cancel);
    stream.cancel();
  }
}

function call<A>(begin: Unary<A>, within = ANSWER_WITHIN_MS): Promise<A> {
  return new Promise((resolve, reject) => {
    begin(new Metadata(), { deadline: Date.now() + within }, (error, answer) =>
      error === null ? resolve(answer) : reject(refusal(error)),
    );
  });
}

function refusal(error: unknown): AgentError {
  const isStatus = error instanceof Error && 'code' in error && 'details' in error;
  const text = isStatus ? String(error.details) : errorText(error);
  // An agent that stops breaks off what is asked: nobody else cancels.
  if (isStatus && (error.code === status.UNAVAILABLE || error.code === status.CANCELLED))
    return new AgentError('admin.not_running', 'the agent went away while it was asked', {}, { cause: error });
  if (isStatus && error.code === status.RESOURCE_EXHAUSTED) {
    const tooLarge = 'the message is larger than the agent takes (`max-message-size` in its configuration)';
    return new AgentError('admin.refused', tooLarge, {}, { cause: error });
  }
  return new AgentError('admin.refused', text, {}, { cause: error });
}

/** gRPC tells only that it could not connect; the socket itself tells why. */
function knock(path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    socket.once('connect', () => {
      socket.destroy();
      resolve();
    });
    socket.once('error', (error) => {
      socket.destroy();
      const isForbidden = ['EACCES', 'EPERM'].includes(errnoOf(error) ?? '');
      reject(
        isForbidden
          ? new AgentError('admin.forbidden', `this user may not reach ${path}`, { path }, { cause: error })
          : new AgentError(
              'admin.not_running',
              `no agent listens at ${path}: start it (systemctl start yggd), or name its runtime-dir with --runtime-dir`,
              { path },
              { cause: error },
            ),
      );
    });
  });
}
