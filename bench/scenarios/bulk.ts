/** Large contents: one that no memory should hold, many beside small messages, and what memory is left after them. */
import { serveBody } from '../body-server.js';
import type { Load } from '../flow.js';
import type { Transport } from '../rows.js';
import { echoWorkers, startAgent } from '../subject.js';
import { forgetPeak, memoryOf } from '../usage.js';
import { wait, type Measure, type Stage } from './measure.js';

const MIB = 1_048_576;
const NOTHING = { seconds: 0, messages: 0 };
const FOREVER = { seconds: Infinity, messages: Infinity };
const CONCURRENCY = 128;

/** One message whose content is behind a URL. */
export async function measureDetached({ ground, flags }: Stage, transport: Transport): Promise<Measure[]> {
  const size = (flags.quick ? 4 : 256) * MIB;
  await using server = await serveBody(size);
  await using agent = await startAgent(ground, {
    workers: [{ directive: 'count', transport, concurrency: 1, answers: 'count' }],
    args: [`--content-hosts=${server.origin}`],
  });
  const load: Load = {
    inFlight: 1,
    payload: 0,
    content: JSON.stringify(`${server.origin}/body`),
    directives: agent.directives,
    warmUp: NOTHING,
    measured: { seconds: 0, messages: 1 },
    total: 1,
    patience: 300,
  };
  const before = memoryOf(agent.agent).rss;
  const workersBefore = sum(agent.workers.map((pid) => memoryOf(pid).rss));
  const { latency } = await agent.driver.run(load, ground.scope);
  const seconds = latency.p50 / 1_000;
  const { peak } = memoryOf(agent.agent);
  const workerPeak = sum(agent.workers.map((pid) => memoryOf(pid).peak));
  return [
    { name: 'content', unit: 'MB', value: size / 1e6 },
    { name: 'time', unit: 's', value: seconds },
    { name: 'rate', unit: 'MB/s', value: size / 1e6 / seconds },
    { name: 'RSS of the agent before', unit: 'MB', value: before / 1e6 },
    { name: 'peak RSS of the agent', unit: 'MB', value: peak / 1e6 },
    { name: 'RSS of the worker before', unit: 'MB', value: workersBefore / 1e6 },
    { name: 'peak RSS of the worker', unit: 'MB', value: workerPeak / 1e6 },
  ];
}

/** Small messages of a higher priority, one at a time, alone and beside a flow of large ones to the same worker. */
export async function measurePriority({ ground, flags }: Stage, transport: Transport): Promise<Measure[]> {
  const { scope } = ground;
  await using agent = await startAgent(ground, { workers: echoWorkers(1, transport, CONCURRENCY) });
  const { driver, directives } = agent;
  const small: Load = {
    inFlight: 1,
    payload: 100,
    metadata: { priority: '9' },
    directives,
    warmUp: { seconds: 0, messages: flags.quick ? 1 : 300 },
    measured: { seconds: flags.seconds, messages: flags.messages },
  };
  const alone = await driver.run(small, scope);
  const large = driver.begin(
    {
      inFlight: flags.quick ? 2 : 16,
      payload: MIB,
      directives,
      warmUp: { seconds: 0, messages: flags.quick ? 2 : 32 },
      measured: FOREVER,
    },
    scope,
  );
  while (large.phase === 'warm-up') await wait(0.05, scope);
  const beside = await driver.run({ ...small, warmUp: { seconds: 0, messages: 1 } }, scope);
  large.finish();
  const flow = await large.done;
  return [
    { name: 'small alone, p50', unit: 'ms', value: alone.latency.p50 },
    { name: 'small alone, p99', unit: 'ms', value: alone.latency.p99 },
    { name: 'small beside 1 MiB, p50', unit: 'ms', value: beside.latency.p50 },
    { name: 'small beside 1 MiB, p99', unit: 'ms', value: beside.latency.p99 },
    { name: '1 MiB messages', unit: 'msg/s', value: flow.messages / flow.seconds },
  ];
}

/** Memory before, in and after a burst of large messages. */
export async function measureBurst({ ground, flags }: Stage): Promise<Measure[]> {
  const count = flags.quick ? 20 : 1_000;
  await using agent = await startAgent(ground, { workers: echoWorkers(1, 'unary', CONCURRENCY) });
  const pid = agent.agent;
  await wait(flags.quick ? 0.2 : 2, ground.scope);
  const before = memoryOf(pid).rss;
  forgetPeak(pid);
  const load: Load = {
    inFlight: flags.quick ? 4 : 64,
    payload: MIB,
    directives: agent.directives,
    warmUp: NOTHING,
    measured: { seconds: 0, messages: count },
    total: count,
  };
  const { messages, seconds } = await agent.driver.run(load, ground.scope);
  const { peak } = memoryOf(pid);
  await wait(2, ground.scope);
  const soon = memoryOf(pid).rss;
  await wait(flags.quick ? 0.2 : 8, ground.scope);
  return [
    { name: '1 MiB messages', unit: 'msg/s', value: messages / seconds },
    { name: 'RSS before', unit: 'MB', value: before / 1e6 },
    { name: 'peak RSS', unit: 'MB', value: peak / 1e6 },
    { name: 'RSS 2 s after', unit: 'MB', value: soon / 1e6 },
    { name: 'RSS 10 s after', unit: 'MB', value: memoryOf(pid).rss / 1e6 },
  ];
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
