/**
 * The operator's end of the broker: one connection that sends the messages of its flows and hands them their answers.
 * What one turn of the event loop has to say goes out in one write.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { Signal } from '../src/signal/index.js';
import { Flow, ID_LENGTH, type Load, type RunResult } from './flow.js';
import * as wire from './wire.js';

export interface DriverOptions {
  readonly port: number;
  /** What stands before `data/in` and the other topics: `yggdrasil/CLIENT-ID`. */
  readonly topics: string;
  /** The field of an answer that names the message: an agent answers, an echo gives back the message itself. */
  readonly answers: 'response_to' | 'message_id';
}

/** Without an answer for so long a flow has failed. */
const PATIENCE_S = 60;
/** Bytes that may wait for the broker; above what is in flight in most rows, so that these are sent in one go. */
const MOST_UNWRITTEN = 16 * 1_048_576;

export class Driver implements AsyncDisposable {
  /** What the agent says on its control topic. */
  readonly control = new Signal<{ readonly text: string; readonly retain: boolean }>('control');
  readonly #flows = new Map<string, Flow>();
  readonly #reader = new wire.PacketReader();
  readonly #marker: string;
  #packetId = 1;
  #wake: () => void = () => undefined;

  private constructor(
    private readonly socket: Socket,
    private readonly options: DriverOptions,
  ) {
    this.#marker = `"${options.answers}":"`;
  }

  /** Connects and subscribes to what the agent says. */
  static async connect(options: DriverOptions, scope: AbortSignal): Promise<Driver> {
    const socket = connect({ host: '127.0.0.1', port: options.port, noDelay: true });
    await once(socket, 'connect', { signal: scope });
    const driver = new Driver(socket, options);
    const { topics } = options;
    socket.write(wire.connectPacket(`bench-driver-${process.pid}`));
    socket.write(wire.subscribePacket(1, [`${topics}/data/out`, `${topics}/control/out`]));
    const isReady = new Promise<void>((resolve, reject) => {
      driver.#wake = resolve;
      socket.once('close', () => reject(new Error('the broker closed the connection of the driver at its start')));
      scope.addEventListener('abort', () => socket.destroy(), { once: true });
    });
    socket.on('data', (chunk) => driver.#take(chunk));
    socket.on('drain', () => driver.#send());
    socket.on('error', (error) => driver.#failAll(`the driver lost the broker: ${error.message}`));
    socket.on('close', () => driver.#failAll('the broker closed the connection of the driver'));
    await isReady;
    return driver;
  }

  /** Runs a load to its end, the last answer. Rejects when a message is lost or refused, or the scope ends. */
  run(load: Load, scope: AbortSignal): Promise<RunResult> {
    return this.begin(load, scope).done;
  }

  /** Begins a load; loads may run side by side. */
  begin(load: Load, scope: AbortSignal): Flow {
    const flow = new Flow(load, `${this.options.topics}/data/in`);
    const stop = (): void => flow.fail(new Error('interrupted', { cause: scope.reason }));
    scope.addEventListener('abort', stop, { once: true });
    this.#flows.set(flow.prefix, flow);
    const patience = 1_000 * (load.patience ?? PATIENCE_S);
    let answered = 0;
    let since = performance.now();
    const watch = setInterval(() => {
      if (flow.answered > answered) since = performance.now();
      answered = flow.answered;
      if (performance.now() - since < patience) return;
      flow.fail(new Error(`${flow.open} messages have no answer, and none came for ${patience / 1_000} s`));
    }, 1_000);
    const end = (): void => {
      clearInterval(watch);
      scope.removeEventListener('abort', stop);
      this.#flows.delete(flow.prefix);
    };
    flow.done.then(end, end);
    if (scope.aborted) stop();
    else this.#send();
    return flow;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.socket.destroyed) return;
    this.socket.end(wire.DISCONNECT_PACKET);
    await once(this.socket, 'close');
  }

  #take(chunk: Buffer): void {
    this.socket.cork();
    for (const packet of this.#reader.push(chunk)) {
      const kind = wire.kindOf(packet);
      if (kind === wire.PUBLISH) this.#hear(wire.readPublication(packet));
      else if (kind === wire.SUBACK) this.#wake();
    }
    this.#send();
    this.socket.uncork();
  }

  #hear({ topic, payload, retain, packetId }: wire.Publication): void {
    if (packetId !== 0) this.socket.write(wire.pubackPacket(packetId));
    if (topic.endsWith('/control/out')) {
      this.control.emit({ text: payload.toString(), retain });
      return;
    }
    const at = payload.indexOf(this.#marker, 0, 'latin1');
    const id = payload.toString('latin1', at + this.#marker.length, at + this.#marker.length + ID_LENGTH);
    const flow = this.#flows.get(id.slice(0, 8));
    if (at < 0 || flow === undefined) return;
    const problem = problemOf(payload, flow.load.content === undefined ? flow.load.payload : 0);
    if (problem === undefined) flow.answer(id, performance.now());
    else flow.fail(new Error(`message ${id} ${problem}: ${payload.toString('latin1', 0, 400)}`));
  }

  #send(): void {
    const now = performance.now();
    this.socket.cork();
    for (const flow of this.#flows.values()) {
      // What the broker has not taken yet waits here, and goes on with 'drain'.
      while (flow.room > 0 && this.socket.writableLength < MOST_UNWRITTEN) {
        this.#packetId = (this.#packetId % 65_535) + 1;
        const { head, tail } = flow.next(now, this.#packetId);
        this.socket.write(head);
        if (tail !== undefined) this.socket.write(tail);
      }
    }
    this.socket.uncork();
  }

  #failAll(why: string): void {
    for (const flow of this.#flows.values()) flow.fail(new Error(why));
  }
}

function problemOf(payload: Buffer, contentLength: number): string | undefined {
  if (payload.length < contentLength) return 'came back short';
  // Errors have metadata and no content: they are short, and only short answers are searched.
  return payload.length < 1_024 && payload.includes('"status":"error"') ? 'was refused' : undefined;
}
