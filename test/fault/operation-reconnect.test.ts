/**
 * CONTRACT section 4, group operation: a whole fleet loses its broker at one moment. 5,000 real connections over TCP
 * (500 in the short form), each with the default back-off of 1 to 120 s, on one clock that the test moves.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { Connection } from '../../src/connection/index.js';
import { Signal } from '../../src/signal/index.js';
import { FakeClock, settle } from '../support/clock.js';
import { fault, isLong, type FaultRun } from '../support/fault.js';
import { freePorts } from '../support/mosquitto.js';
import { CONNECT, FrameReader, SUBSCRIBE } from '../support/mqtt-frames.js';
import { seeded } from '../support/seeded.js';

const AGENTS = isLong ? 5_000 : 500;
const BACKOFF = { first: 1_000, cap: 120_000 };
const OUTAGE_S = 240;
/** Attempts that fall together into one step of the clock are apart by no more than this. */
const STEP_MS = isLong ? 100 : 200;

const files = Number(execFileSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' }));
const skip =
  files < 2 * AGENTS + 500 && `a process may have ${files} open files here, and both ends need ${2 * AGENTS}`;

fault(
  'operation',
  '5,000 agents lose their broker at one moment, and come back spread over the back-off',
  { skip, timeout: 600_000 },
  async (run) => {
    await using fleet = await Fleet.start(run);
    const { clock } = fleet;
    await fleet.allUp();
    await clock.advance(60_000);
    await fleet.quiet();
    fleet.forget();

    await fleet.closeBroker();
    await fleet.pass(OUTAGE_S);
    const back = clock.monotonic();
    // The first wait of each lies in [0, 1 s): the loss itself is not one moment for whoever answers.
    const first = histogram(
      fleet.attempts.map(([at = 0]) => at - fleet.lostAt),
      100,
      10,
    );
    run.test.diagnostic(`first attempts after the loss, per 200 ms: ${first.join(' ')}`);
    assert.ok(Math.max(...first) < AGENTS / 5 + 5 * Math.sqrt(AGENTS / 5), 'the first second is filled evenly');

    await fleet.openBroker();
    await fleet.pass(BACKOFF.cap / 1000 + 1);
    const returns = fleet.attempts.map((times) => (times.at(-1) ?? 0) - back);
    assert.equal(fleet.ups, 2 * AGENTS, 'all are back within the longest back-off');
    const perSecond = histogram(returns, 1_000, BACKOFF.cap / 1000 + 1);
    const mean = AGENTS / (BACKOFF.cap / 1000);
    const most = Math.max(...perSecond);
    const byTenSeconds = histogram(returns, 10_000, 12);
    run.test.diagnostic(`back per 10 s: ${byTenSeconds.join(' ')}`);
    run.test.diagnostic(
      `the busiest second has ${most}, ${(most / mean).toFixed(1)} times the mean of ${mean.toFixed(1)}`,
    );
    // Waits are uniform up to the cap, so what is left of them at a given moment begins with twice the mean and falls to
    // nothing at the end; the rest is chance, of which five standard deviations are plenty.
    const bound = 2 * mean + 5 * Math.sqrt(2 * mean);
    assert.ok(most <= bound, `${most} agents came back in one second, and the mean is ${mean}`);
    // The last ten seconds have one in 144 of them: of 500 agents none at all, in three of a hundred runs.
    assert.ok(
      byTenSeconds.slice(0, -1).every((count) => count > 0),
      'they come over the whole of the configured time',
    );
    // And the waits themselves: uniform over [0, 120 s) once the doubling is through.
    const waits = fleet.attempts.flatMap((times) => times.slice(8).map((at, n) => at - (times[n + 7] ?? 0)));
    const quarters = histogram(waits, BACKOFF.cap / 4, 4);
    run.test.diagnostic(`long waits by quarters of 120 s: ${quarters.join(' ')}`);
    run.count(fleet.attempts.flat().length);
  },
);

/** How many values fall into each of `count` intervals of this width. */
function histogram(values: readonly number[], width: number, count: number): number[] {
  const bins = Array.from({ length: count }, () => 0);
  for (const value of values) {
    const bin = Math.min(count - 1, Math.max(0, Math.floor(value / width)));
    bins[bin] = (bins[bin] ?? 0) + 1;
  }
  return bins;
}

/** Connections on one clock, and the broker they share: it says yes to CONNECT and SUBSCRIBE, and nothing else. */
class Fleet implements AsyncDisposable {
  readonly clock = new FakeClock();
  /** Of each agent, when it began each of its attempts. */
  attempts: number[][] = [];
  ups = 0;
  lostAt = 0;
  #begun = 0;
  #ended = 0;
  readonly #changed = new Signal<void>('changed');
  readonly #connections: Connection[] = [];
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;

  private constructor(private readonly port: number) {}

  static async start(run: FaultRun): Promise<Fleet> {
    const [port = 0] = await freePorts(1);
    const fleet = new Fleet(port);
    await fleet.openBroker();
    for (let n = 0; n < AGENTS; n++) {
      const scope = new AbortController().signal;
      const connection = new Connection({
        brokers: [`mqtt://127.0.0.1:${port}`],
        clientId: `agent-${n}`,
        protocolVersion: '5',
        subscriptions: ['in'],
        backoff: BACKOFF,
        clock: fleet.clock,
        random: seeded(run.seed + n),
        // The broker of this test answers no ping, and nothing here is about silence.
        keepalive: 0,
        // Asked at the begin of each attempt.
        credentials: () => {
          fleet.#begun += 1;
          fleet.attempts[n]?.push(fleet.clock.monotonic());
          return {};
        },
      });
      fleet.attempts.push([]);
      connection.up.connect(() => {
        fleet.ups += 1;
        fleet.#end();
      }, scope);
      connection.down.connect(({ wasUp }) => {
        if (!wasUp) fleet.#end();
        fleet.#changed.emit();
      }, scope);
      fleet.#connections.push(connection);
    }
    return fleet;
  }

  /** Some at a time: it is not this that is measured. */
  async allUp(): Promise<void> {
    for (const [n, connection] of this.#connections.entries()) {
      await connection.start();
      if (n % 100 === 99) await this.quiet();
    }
    await this.quiet();
    assert.equal(this.ups, AGENTS);
  }

  forget(): void {
    this.attempts = this.attempts.map(() => []);
  }

  async openBroker(): Promise<void> {
    const server = createServer((socket) => this.#serve(socket));
    this.#server = server;
    server.listen({ port: this.port, host: '127.0.0.1', backlog: 1024 });
    await once(server, 'listening');
  }

  /** It is gone, and everybody learns of it. */
  async closeBroker(): Promise<void> {
    const isLost = (connection: Connection): boolean => connection.state.kind !== 'up';
    const closed = once(this.#server ?? createServer(), 'close');
    this.#server?.close();
    this.lostAt = this.clock.monotonic();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
    while (!this.#connections.every(isLost)) await this.#changed.next(AbortSignal.timeout(60_000));
  }

  /** Lets so many seconds pass; what began in a step has come to its end before the next. */
  async pass(seconds: number): Promise<void> {
    for (let step = 0; step < (seconds * 1000) / STEP_MS; step++) {
      await this.clock.advance(STEP_MS);
      await this.quiet();
    }
  }

  /** No attempt is under way. */
  async quiet(): Promise<void> {
    await settle();
    while (this.#begun > this.#ended) await this.#changed.next(AbortSignal.timeout(60_000));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#connections.map((connection) => connection.stop()));
    const server = this.#server;
    if (server?.listening === true) await new Promise((resolve) => server.close(resolve));
  }

  #end(): void {
    this.#ended += 1;
    this.#changed.emit();
  }

  #serve(socket: Socket): void {
    const reader = new FrameReader();
    this.#sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => this.#sockets.delete(socket));
    socket.setNoDelay(true).on('data', (chunk: Buffer) => {
      for (const { type, bytes } of reader.push(chunk)) {
        if (type === CONNECT) socket.write(Buffer.of(0x20, 3, 0, 0, 0));
        if (type === SUBSCRIBE) socket.write(Buffer.of(0x90, 4, bytes.readUInt8(2), bytes.readUInt8(3), 0, 1));
      }
    });
  }
}
