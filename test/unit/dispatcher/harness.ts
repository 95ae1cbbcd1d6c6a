/** A dispatcher on real sockets in a directory of its own, over a store in memory, with a clock that can be the test's. */
import { parseWorkerName, type MessageKey, type WorkerName } from '../../../src/message/ids.js';
import { Dispatcher, type DispatcherOptions } from '../../../src/dispatcher/index.js';
import type { DispatchLimits, DispatchSettings, DispatchStore, Outcome } from '../../../src/dispatcher/index.js';
import { systemClock, type Clock } from '../../../src/time.js';
import { recordingLog, type RecordingLog } from '../../support/log.js';
import { StreamWorker } from '../../support/stream-worker.js';
import { tempDir, type TempDir } from '../../support/temp.js';
import { TestWorker, type TestWorkerOptions } from '../../support/worker.js';
import { MemoryStore } from './memory-store.js';

export const SETTINGS: DispatchSettings = { handlers: undefined, socket: 'path' };

export function workerName(name: string): WorkerName {
  return parseWorkerName(name)!;
}

export interface HarnessOptions {
  readonly clock?: Clock;
  readonly limits?: Partial<DispatchLimits>;
  readonly isInstalled?: (name: WorkerName) => boolean;
  readonly isPeer?: DispatcherOptions['isPeer'];
}

export class Harness<S extends DispatchStore> implements AsyncDisposable {
  readonly scope = new AbortController();
  readonly outcomes: { readonly key: MessageKey; readonly outcome: Outcome }[] = [];
  /** Every signal about workers, in order, as text. */
  readonly news: string[] = [];
  readonly returned: MessageKey[] = [];
  readonly #workers: AsyncDisposable[] = [];

  private constructor(
    readonly dispatcher: Dispatcher,
    readonly store: S,
    readonly log: RecordingLog,
    readonly directory: TempDir,
  ) {
    const { signal } = this.scope;
    dispatcher.dataDispatch.connect((dispatch) => this.outcomes.push(dispatch), signal);
    dispatcher.dataReturn.connect((key) => this.returned.push(key), signal);
    dispatcher.workerRegister.connect(({ name, directive }) => this.news.push(`+${name}/${directive}`), signal);
    dispatcher.workerUnregister.connect(({ name, directive }) => this.news.push(`-${name}/${directive}`), signal);
    dispatcher.workerUnhealthy.connect(({ name }) => this.news.push(`!${name}`), signal);
  }

  static inMemory(options: HarnessOptions = {}): Promise<Harness<MemoryStore>> {
    return Harness.over(new MemoryStore(), options);
  }

  static async over<S extends DispatchStore>(store: S, options: HarnessOptions = {}): Promise<Harness<S>> {
    const directory = await tempDir();
    const log = recordingLog();
    const dispatcher = new Dispatcher({
      runtimeDir: directory.path,
      store,
      clock: options.clock ?? systemClock,
      random: () => 0,
      log,
      agentConfig: () => ({
        logLevel: 'INFO',
        clientId: 'edge-7',
        server: 'mqtts://broker',
        certFile: '',
        keyFile: '',
        caRoot: '',
      }),
      ...(options.limits === undefined ? {} : { limits: options.limits }),
      ...(options.isInstalled === undefined ? {} : { isInstalled: options.isInstalled }),
      ...(options.isPeer === undefined ? {} : { isPeer: options.isPeer }),
    });
    const harness = new Harness(dispatcher, store, log, directory);
    await dispatcher.start(harness.scope.signal);
    return harness;
  }

  /** A worker whose socket is prepared; it has not registered yet. */
  async worker(
    name = 'echo-worker',
    settings: Partial<DispatchSettings> = {},
    options: Partial<TestWorkerOptions> = {},
  ): Promise<TestWorker> {
    const { address } = await this.dispatcher.prepare({
      name: workerName(name),
      settings: { ...SETTINGS, ...settings },
    });
    const worker = new TestWorker({ address, ...options });
    this.#workers.push(worker);
    return worker;
  }

  /** A worker that has called Connect, on a socket that is prepared; it has not said Hello yet. */
  async streamWorker(name = 'echo-worker', settings: Partial<DispatchSettings> = {}): Promise<StreamWorker> {
    const { address } = await this.dispatcher.prepare({
      name: workerName(name),
      settings: { ...SETTINGS, ...settings },
    });
    const worker = new StreamWorker({ address });
    this.#workers.push(worker);
    return worker;
  }

  /** As the process part tells it. */
  died(name = 'echo-worker', exit: { isStopped?: boolean; isRemoved?: boolean } = {}): void {
    this.dispatcher.processDied({ name: workerName(name), isStopped: false, isRemoved: false, ...exit });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispatcher.stop(0);
    for (const worker of this.#workers) await worker[Symbol.asyncDispose]();
    this.scope.abort();
    await this.directory[Symbol.asyncDispose]();
  }
}
