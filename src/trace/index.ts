export { STEP, type End, type Step } from './step-ring.js';
export { Trace, type AgentEvent, type TakenStep, type TracedMessage, type TraceOptions } from './trace.js';
