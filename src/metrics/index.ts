export { METRICS, GROUPS, type Declaration } from './catalogue.js';
export { Registry } from './instruments.js';
export { LoopWatch } from './loop.js';
export { collectProcess, freeBytes, residentBytes, sizeOf } from './machine.js';
export { MOST_NAMES, Names, OTHER } from './names.js';
export type { BrokerView, HealthDesk, Progress } from './ports.js';
export { MetricsPost } from './post.js';
export { Recorder } from './recorder.js';
