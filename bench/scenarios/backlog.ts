/**
 * Messages that wait for a worker: how fast they are taken in, what other messages cost beside them, how long a start
 * with them takes, and how fast they are worked off once their worker is there.
 */
import type { Load } from '../flow.js';
import { measureRound } from '../round.js';
import { echoWorkers, launchAgent, makeStation, subjectOf, type WorkerSetup } from '../subject.js';
import { cpuOf, memoryOf } from '../usage.js';
import type { Measure, Stage } from './measure.js';

const LATE: WorkerSetup = { directive: 'late', transport: 'unary', concurrency: 128, answers: 'echo' };
/** A day: what waits is answered only when its worker comes. */
const PATIENCE_S = 86_400;
/** Nobody has registered for it yet, and still it is to be kept. */
const ARGS = ['--unknown-directive-lifetime=7d'];

export async function measureBacklog({ ground, flags }: Stage): Promise<Measure[]> {
  const { scope } = ground;
  const count = flags.backlog;
  const nothing = { seconds: 0, messages: 0 };
  await using station = await makeStation(ground);
  const { driver } = station;
  const workers = echoWorkers(1, 'unary', 128);
  const small: Load = {
    inFlight: 128,
    payload: 100,
    directives: ['echo0'],
    warmUp: { seconds: flags.quick ? 0 : 1, messages: flags.quick ? 1 : 1_000 },
    measured: { seconds: flags.seconds, messages: flags.messages },
  };
  const probe: Load = { ...small, inFlight: 1, total: 1, warmUp: nothing, measured: { seconds: 0, messages: 1 } };
  const before = await (async () => {
    const first = await launchAgent(ground, station, { workers, args: ARGS });
    await using _ends = first.yggd;
    const subject = subjectOf(ground, station, first, ['echo0']);
    const alone = await measureRound(subject, small, scope);
    const cpu = cpuOf([first.yggd.pid]);
    const began = performance.now();
    const waiting = driver.begin(
      {
        ...probe,
        directives: ['late'],
        inFlight: count,
        total: count,
        measured: { seconds: 0, messages: count },
        patience: PATIENCE_S,
      },
      scope,
    );
    // The broker keeps the order: when this one is answered, the agent has all before it.
    await driver.run({ ...probe, patience: PATIENCE_S }, scope);
    const seconds = (performance.now() - began) / 1_000;
    const intake = { seconds, cpu: cpuOf([first.yggd.pid]) - cpu };
    const beside = await measureRound(subject, small, scope);
    return { alone, intake, beside, waiting, rss: memoryOf(first.yggd.pid).rss };
  })();
  const second = await launchAgent(ground, station, { workers: [...workers, LATE], args: ARGS });
  await using _ends = second.yggd;
  const { waiting, alone, beside, intake } = before;
  const left = waiting.open;
  const cpu = cpuOf([second.yggd.pid]);
  const began = performance.now();
  await Promise.race([waiting.done, second.yggd.ended.then(() => Promise.reject(new Error('the agent ended')))]);
  const drain = { seconds: (performance.now() - began) / 1_000, cpu: cpuOf([second.yggd.pid]) - cpu };
  return [
    { name: 'waiting', unit: 'messages', value: count },
    { name: 'taken in', unit: 'msg/s', value: count / intake.seconds },
    { name: 'taken in, agent', unit: 'µs', value: intake.cpu / count },
    { name: 'RSS with them', unit: 'MB', value: before.rss / 1e6 },
    { name: 'others alone', unit: 'msg/s', value: alone.throughput },
    { name: 'others beside them', unit: 'msg/s', value: beside.throughput },
    { name: 'others alone, agent', unit: 'µs', value: alone.cpu.agent },
    { name: 'others beside them, agent', unit: 'µs', value: beside.cpu.agent },
    { name: 'start with them, to online', unit: 'ms', value: second.onlineMs },
    { name: 'drained', unit: 's', value: drain.seconds },
    { name: 'drained', unit: 'msg/s', value: left / drain.seconds },
    { name: 'drained, agent', unit: 'µs', value: drain.cpu / left },
    { name: 'peak RSS of the drain', unit: 'MB', value: memoryOf(second.yggd.pid).peak / 1e6 },
  ];
}
