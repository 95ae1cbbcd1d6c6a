/** Which function measures which scenario. */
import type { ScenarioName } from '../rows.js';
import { measureBacklog } from './backlog.js';
import { measureBurst, measureDetached, measurePriority } from './bulk.js';
import { measureIdle } from './idle.js';
import type { Measure, Stage } from './measure.js';
import { measureStart } from './start.js';

export type { Measure, Stage } from './measure.js';

const SCENARIOS: Readonly<Record<ScenarioName, (stage: Stage) => Promise<Measure[]>>> = {
  start: measureStart,
  backlog: measureBacklog,
  idle: measureIdle,
  'detached-unary': (stage) => measureDetached(stage, 'unary'),
  'detached-stream': (stage) => measureDetached(stage, 'stream'),
  'priority-unary': (stage) => measurePriority(stage, 'unary'),
  'priority-stream': (stage) => measurePriority(stage, 'stream'),
  burst: measureBurst,
};

/** Runs a scenario once. */
export function measureScenario(name: ScenarioName, stage: Stage): Promise<Measure[]> {
  return SCENARIOS[name](stage);
}
