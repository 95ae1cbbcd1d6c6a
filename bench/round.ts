/** One round of one row: a load on a subject, with what each process took of the processor, and the agent's memory. */
import type { Load } from './flow.js';
import type { Latency } from './statistics.js';
import type { Running } from './subject.js';
import { cpuOf, forgetPeak, memoryOf } from './usage.js';

/** Microseconds of processor time for each message. */
export interface CpuPerMessage {
  readonly agent: number;
  readonly worker: number;
  readonly broker: number;
  readonly driver: number;
}

export interface Round {
  /** Messages a second. */
  readonly throughput: number;
  readonly messages: number;
  readonly latency: Latency;
  readonly cpu: CpuPerMessage;
  /** Of the agent, in bytes. */
  readonly idleRss: number;
  readonly peakRss: number;
}

/** Runs the load to its end. Rejects when a message is lost or the agent dies. */
export async function measureRound(subject: Running, load: Load, scope: AbortSignal): Promise<Round> {
  const before = [0, 0, 0, 0];
  const cpu = [0, 0, 0, 0];
  forgetPeak(subject.agent);
  const onBegin = (): void => {
    const [agent, worker, broker] = cpuOfOthers(subject);
    before.splice(0, 4, agent, worker, broker, ownCpu());
  };
  const onEnd = (): void => {
    const driver = ownCpu();
    const after = [...cpuOfOthers(subject), driver];
    after.forEach((value, index) => (cpu[index] = value - (before[index] ?? 0)));
  };
  let result;
  try {
    result = await subject.driver.run({ ...load, onBegin, onEnd }, scope);
  } catch (error) {
    const problem = subject.problem();
    throw problem === undefined ? error : new Error(problem, { cause: error });
  }
  const { messages, seconds, latency } = result;
  const [agent = 0, worker = 0, broker = 0, driver = 0] = cpu.map((micros) => micros / messages);
  return {
    throughput: messages / seconds,
    messages,
    latency,
    cpu: { agent, worker, broker, driver },
    idleRss: subject.idleRss,
    peakRss: memoryOf(subject.agent).peak,
  };
}

function cpuOfOthers({ agent, workers, broker }: Running): [number, number, number] {
  return [cpuOf([agent]), cpuOf(workers), cpuOf([broker])];
}

function ownCpu(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}
