/** The embedded broker for first use and tests. */
export { EmbeddedBroker, type BrokerAddress, type EmbeddedBrokerOptions } from './embedded-broker.js';
