/** What an agent takes that has nothing to do: processor, wake-ups, memory, and bytes to and from the broker. */
import { startProxy } from '../proxy.js';
import { echoWorkers, startAgent } from '../subject.js';
import { cpuOf, memoryOf, wakeUpsOf } from '../usage.js';
import { wait, type Measure, type Stage } from './measure.js';

/** The status is repeated 10 s after a connect. */
const SETTLE_S = 12;
const DAY_S = 86_400;

export async function measureIdle({ ground, flags }: Stage): Promise<Measure[]> {
  await using proxy = await startProxy(ground.broker.port);
  let status = 0;
  await using agent = await startAgent(ground, { workers: echoWorkers(1, 'unary', 1), door: proxy.url });
  const { driver, agent: pid, workers } = agent;
  driver.control.connect(({ text }) => (status = text.length), ground.scope);
  await wait(flags.quick ? 0.5 : SETTLE_S, ground.scope);
  const now = (): number[] => [cpuOf([pid]), cpuOf(workers), wakeUpsOf(pid), proxy.bytes];
  const before = now();
  await wait(flags.idle, ground.scope);
  const [cpu = 0, workerCpu = 0, wakeUps = 0, bytes = 0] = now().map((value, at) => value - (before[at] ?? 0));
  return [
    { name: 'agent, of one core', unit: '%', value: cpu / flags.idle / 1e4 },
    { name: 'worker, of one core', unit: '%', value: workerCpu / flags.idle / 1e4 },
    { name: 'wake-ups of the agent', unit: '1/s', value: wakeUps / flags.idle },
    // Pings as seen, and the status that is repeated each hour.
    { name: 'on the wire, a day', unit: 'KB', value: ((bytes / flags.idle) * DAY_S + 24 * status) / 1e3 },
    { name: 'RSS of the agent', unit: 'MB', value: memoryOf(pid).rss / 1e6 },
    { name: 'RSS of the worker', unit: 'MB', value: workers.reduce((sum, each) => sum + memoryOf(each).rss, 0) / 1e6 },
  ];
}
