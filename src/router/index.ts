export { MessageRouter, subscriptionsOf, type RouterCounts, type RouterOptions } from './router.js';
export { DEFAULT_ROUTER_SETTINGS, type RouterSettings } from './settings.js';
export { filterMatches, isResponseTopicAllowed, topicsOf, type Topics } from './topics.js';
export type { DataCancel } from './commands.js';
export type { IntakeCounts, MalformedMessage } from './intake.js';
export * from './ports.js';
