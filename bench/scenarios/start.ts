/** How long a start takes, with nothing to do and nothing on disk. */
import { echoWorkers, launchAgent, makeStation } from '../subject.js';
import type { Measure, Stage } from './measure.js';

export async function measureStart({ ground }: Stage): Promise<Measure[]> {
  await using station = await makeStation(ground);
  const { yggd, onlineMs, workersMs } = await launchAgent(ground, station, { workers: echoWorkers(1, 'unary', 1) });
  await using _ends = yggd;
  return [
    { name: 'process to online status', unit: 'ms', value: onlineMs },
    { name: 'process to first worker', unit: 'ms', value: workersMs },
  ];
}
