/** One MQTT connection; knows no topic of ours. */
export { Connection } from './connection.js';
export { type BrokerAddress, parseBrokerAddress, withoutUser } from './broker-address.js';
export type { DownCode } from './failure.js';
export type {
  ConnectionOptions,
  ConnectionState,
  Credentials,
  Delivery,
  Down,
  PublishOptions,
  PublishOutcome,
  Session,
  Will,
} from './ports.js';
export type { TlsMaterial } from './tls-material.js';
export type { ProtocolVersion, VersionPolicy } from './version-memory.js';
