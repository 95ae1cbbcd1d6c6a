export { Bus, systemBusAddress, type BusOptions, type BusSignal, type Call, type Variant } from './bus.js';
