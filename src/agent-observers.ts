/**
 * Who watches the agent: metrics where `metrics-listen` is set, traces where the program that embeds it has registered
 * a tracer provider. Neither is loaded otherwise, and then nothing is measured.
 */
import type { MetricsParts } from './agent-metrics.js';
import type { Watch, Witness } from './datastore/index.js';
import { errorText } from './errors.js';
import type { Progress } from './metrics/index.js';

/** Where OpenTelemetry's API keeps what was registered in this process; nothing is there unless somebody did. */
const REGISTERED = Symbol.for('opentelemetry.js.api.1');

/** Whatever has to be ended again. */
export interface Observers {
  stop(): Promise<void>;
}

const NONE: Observers = { stop: () => Promise.resolve() };

/** Begins to watch, before the rest of the agent starts. Throws `metrics.listen_failed`. */
export async function startObservers(parts: MetricsParts, watch: Watch): Promise<Observers> {
  const traces = await tracesFor(parts);
  if (parts.settings.metricsListen === undefined) {
    watch.witness = traces;
    return NONE;
  }
  const { AgentMetrics } = await import('./agent-metrics.js');
  const metrics = new AgentMetrics(parts);
  watch.witness = traces === undefined ? metrics.recorder : both(metrics.recorder, traces);
  try {
    await metrics.start();
  } catch (error) {
    await metrics.stop();
    throw error;
  }
  return metrics;
}

async function tracesFor({ version, clock, log }: MetricsParts): Promise<Witness | undefined> {
  const registered: unknown = Reflect.get(globalThis, REGISTERED);
  if (typeof registered !== 'object' || registered === null || !('trace' in registered)) return undefined;
  try {
    const { Traces } = await import('./metrics/traces.js');
    return new Traces({ version, clock, log });
  } catch (error) {
    const text = 'a tracer provider is registered, but @opentelemetry/api cannot be loaded';
    log.warn('trace.unavailable', `${text}: ${errorText(error)}; there are no traces`);
    return undefined;
  }
}

/** Whether the agent is ready, and what is missing. */
export function progressOf(missing: ReadonlySet<'journal' | 'sockets' | 'workers'>, isStopping: boolean): Progress {
  const reasons = [
    ...(isStopping ? ['the agent is stopping'] : []),
    ...(missing.has('journal') ? ['the journal is not open yet'] : []),
    ...(missing.has('sockets') ? ['the sockets are not open yet'] : []),
    ...(missing.has('workers') ? ['the worker directory was not read yet'] : []),
  ];
  return { isGood: reasons.length === 0, reasons, isJournalOpen: !missing.has('journal') };
}

function both(first: Witness, second: Witness): Witness {
  return {
    inbound: (...told) => {
      first.inbound(...told);
      second.inbound(...told);
    },
    outbound: (...told) => {
      first.outbound(...told);
      second.outbound(...told);
    },
    committed: (...told) => {
      first.committed(...told);
      second.committed(...told);
    },
  };
}
