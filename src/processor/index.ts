export { DataProcessor, type DataProcessorOptions, type ProcessorGauges } from './data-processor.js';
export { createUrlPolicy, type UrlPolicy, type UrlSettings } from './url-policy.js';
export { DEFAULT_LIMITS, type ProcessorLimits } from './settings.js';
export type {
  Dispatched,
  EndOutcome,
  InboundStore,
  KnownWorker,
  OutboundStore,
  ProcessorStore,
  Proxy,
  ProxyFor,
  Resolver,
  TlsMaterial,
} from './ports.js';
