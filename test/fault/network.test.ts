/**
 * CONTRACT section 4, group network: the built daemon at a real mosquitto, and between them a connection that is cut.
 * Lines that are slow, lossy or dead are in network-lines.test.ts.
 */
import assert from 'node:assert/strict';
import { connectAsync } from 'mqtt';
import { ChaosBench, EAGER } from '../support/chaos-bench.js';
import { ChaosProxy, type Fate, type Manner } from '../support/chaos-proxy.js';
import { FakeClock } from '../support/clock.js';
import { testConnection } from '../support/connection.js';
import { fault, type FaultRun } from '../support/fault.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import { CONNACK, PUBACK, PUBLISH } from '../support/mqtt-frames.js';
import { between } from '../support/seeded.js';

const options = { skip: mosquittoMissing, timeout: 600_000 };
const PATIENCE_MS = 60_000;

const mannerOf = (run: FaultRun): Manner => (run.random() < 0.5 ? 'rst' : 'fin');

/** Sends until the proxy has cut once more; the ids. */
async function loadUntilCut(chaos: ChaosBench, count: number): Promise<string[]> {
  const { proxy } = chaos;
  const ids: string[] = [];
  for (const before = proxy.cutCount; proxy.cutCount === before;) {
    const more = chaos.send(count);
    ids.push(...more);
    await Promise.race([proxy.cuts.next(AbortSignal.timeout(PATIENCE_MS)), chaos.answered(more)]);
  }
  return ids;
}

fault('network', 'connection cut at random bytes under load', options, async (run) => {
  await using chaos = await ChaosBench.make();
  const { proxy } = chaos;
  const yggd = await chaos.start();
  const ids: string[] = [];
  proxy.fate = (): Fate => ({
    after: { direction: run.random() < 0.5 ? 'up' : 'down', bytes: between(run.random, 30, 6_000) },
    manner: mannerOf(run),
  });
  // The connection that stands has no such fate.
  proxy.cut();
  for (const _ of run.each(20, 220)) ids.push(...(await loadUntilCut(chaos, 20)));
  proxy.fate = () => undefined;
  await chaos.answered(ids);
  assert.equal(chaos.close(run).messages, ids.length);
  assert.equal(await yggd.stop(), 0);
});

fault('network', 'connection cut between a PUBLISH and its PUBACK', options, async (run) => {
  await using chaos = await ChaosBench.make();
  const { proxy } = chaos;
  await chaos.start();
  const ids: string[] = [];
  const chosen = (): boolean => run.random() < 0.2;
  proxy.fate = (): Fate => ({
    at: ({ type, topic = '' }, direction) => {
      // An answer that the broker has and the agent does not know of.
      if (type === PUBLISH && direction === 'up' && topic.endsWith('data/out'))
        return chosen() ? 'cut-after' : undefined;
      // An acknowledgement that was given and never arrives.
      if (type === PUBACK && direction === 'up') return chosen() ? 'cut-before' : undefined;
      return undefined;
    },
    manner: mannerOf(run),
  });
  proxy.cut();
  for (const _ of run.each(8, 100)) ids.push(...(await loadUntilCut(chaos, 5)));
  proxy.fate = () => undefined;
  await chaos.answered(ids);
  chaos.close(run);
});

fault('network', 'connection cut after CONNACK, again and again', options, async (run) => {
  await using chaos = await ChaosBench.make();
  const { proxy } = chaos;
  await chaos.start();
  const ids = chaos.send(20);
  let left = [...run.each(5, 40)].length;
  proxy.fate = (): Fate => ({
    at: ({ type }) => (type === CONNACK && left-- > 0 ? 'cut-after' : undefined),
    manner: mannerOf(run),
  });
  proxy.cut();
  while (left > 0) {
    ids.push(...chaos.send(1));
    await proxy.cuts.next(AbortSignal.timeout(PATIENCE_MS));
  }
  await chaos.answered(ids);
  chaos.close(run);
});

fault('network', 'broker restarted with persistence', options, async (run) => {
  await using chaos = await ChaosBench.make({ persistence: 'at-stop' });
  const { broker } = chaos.bench;
  await chaos.start();
  const ids: string[] = [];
  for (const _ of run.each(2, 15)) {
    ids.push(...chaos.send(100));
    await chaos.proxy.acknowledged.next(AbortSignal.timeout(PATIENCE_MS));
    await chaos.ledger.harm('broker', () => broker.restart());
  }
  await chaos.answered(ids);
  chaos.close(run);
});

fault('network', 'broker killed without persistence: what the agent acknowledged is done', options, async (run) => {
  await using chaos = await ChaosBench.make();
  const { broker } = chaos.bench;
  await chaos.start();
  for (const _ of run.each(2, 15)) {
    chaos.send(100);
    await chaos.proxy.acknowledged.next(AbortSignal.timeout(PATIENCE_MS));
    run.killed('broker');
    await chaos.ledger.harm('broker', async () => {
      await broker.kill();
      await broker.restart();
    });
    // Results keep their order: when this one is answered, so is all that came before it.
    await chaos.untilAnswered();
  }
  const verdict = chaos.close(run, 'acknowledged');
  assert.ok(verdict.messages > 0);
});

fault('network', 'another client with the same client id', options, async (run) => {
  await using chaos = await ChaosBench.make();
  const { bench, proxy } = chaos;
  const yggd = await chaos.start([
    '--mqtt-reconnect-delay=100ms',
    '--mqtt-reconnect-delay-max=10s',
    '--log-level=debug',
  ]);
  const ids: string[] = [];
  yggd.forget();
  const before = proxy.count;
  await chaos.ledger.harm('link', async () => {
    // It takes over the session and acknowledges nothing of what it gets.
    const intruder = await connectAsync(bench.broker.url, {
      clientId: 'host-1',
      protocolVersion: 5,
      clean: false,
      properties: { sessionExpiryInterval: 3600 },
      reconnectPeriod: 1,
      customHandleAcks: () => undefined,
    });
    for (const _ of run.each(7, 10)) {
      ids.push(...chaos.send(5));
      await proxy.connected.next(AbortSignal.timeout(PATIENCE_MS));
    }
    await intruder.endAsync(true);
  });
  await chaos.answered(ids);
  const ends = yggd.log.filter(({ event }) => event === 'connection.lost' || event === 'connection.failed');
  const waits = ends.map(({ retryIn }) => Number(retryIn));
  run.test.diagnostic(`${proxy.count - before} connections; waits between them, in ms: ${waits.join(', ')}`);
  for (const [n, wait] of waits.entries()) assert.ok(wait <= Math.min(10_000, 100 * 2 ** n), `wait ${n}: ${wait} ms`);
  assert.ok(Math.max(...waits) > 200, 'the waits grow');
  chaos.close(run);
});

fault('network', 'broker down at boot for long', options, async (run) => {
  await using chaos = await ChaosBench.make({ persistence: 'at-stop' });
  const { bench } = chaos;
  // The session is there from an earlier life, so that what is sent while the agent is away waits for it.
  const earlier = await chaos.start();
  await earlier.stop();
  const ids = chaos.send(20);
  await chaos.taken(ids);
  await bench.broker.stop();
  const yggd = bench.spawn([...EAGER, '--log-level=debug']);
  const attempts = (): number => yggd.log.filter(({ event }) => event === 'connection.attempt').length;
  for (const round of run.each(20, 600)) await yggd.line('connection.attempt', () => attempts() >= round);
  const warnings = yggd.log.filter(({ event, level }) => event === 'connection.failed' && level === 'warn');
  assert.equal(warnings.length, 1, 'the same reason is told once');
  await chaos.ledger.harm('broker', () => bench.broker.restart());
  await chaos.answered(ids);
  chaos.close(run);
});

fault('network', 'second broker of the list takes over, and gives back to the first', options, async (run) => {
  await using chaos = await ChaosBench.make();
  const { bench } = chaos;
  // Two doors to one broker, as the setting wants them.
  await using second = await ChaosProxy.start({ target: bench.broker.port });
  const yggd = await chaos.start([`--broker=${second.url}`, ...EAGER]);
  assert.equal(second.count, 0);
  const ids: string[] = [];
  for (const _ of run.each(2, 20)) {
    ids.push(...chaos.send(20));
    // Frozen, the first door is open and leads nowhere: the attempt at it has to time out. Closed, it refuses.
    await chaos.ledger.harm('link', async () => {
      await chaos.proxy.close();
      const taken = second.connected.next(AbortSignal.timeout(PATIENCE_MS));
      await taken;
    });
    ids.push(...chaos.send(20));
    await chaos.answered(ids);
    await chaos.proxy.open();
    await chaos.ledger.harm('link', async () => {
      const back = chaos.proxy.connected.next(AbortSignal.timeout(PATIENCE_MS));
      second.cut();
      await back;
    });
  }
  ids.push(...chaos.send(20));
  await chaos.answered(ids);
  chaos.close(run);
  assert.equal(await yggd.stop(), 0);

  // By itself it looks for the first every ten minutes.
  await chaos.proxy.close();
  const clock = new FakeClock();
  const brokers = [chaos.proxy.url, second.url];
  await using agent = testConnection({ brokers, clock, keepalive: 0 });
  await agent.connection.start();
  assert.equal((await agent.up()).broker, second.url);
  await clock.advance(599_000);
  await chaos.proxy.open();
  assert.equal(agent.ups.length, 1);
  await clock.advance(1_000);
  assert.equal((await agent.up(2)).broker, chaos.proxy.url);
});
