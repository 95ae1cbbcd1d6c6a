/** One MQTT connection; knows no topic of ours. */
export { Connection } from './connection.js';
export { type BrokerAddress, parseBrokerAddress, withoutUser } from './broker-address.js';
export { networkFailure, type DownCode } from './failure.js';
export type {
  ConnectionOptions,
  ConnectionState,
  Credentials,
  Delivery,
  Down,
  PublishOptions,
  PublishOutcome,
  SendOutcome,
  Session,
  Will,
} from './ports.js';
export { examineBroker, type ExaminationOptions, type MqttLook, type MqttSeen } from './examination.js';
export { certificateLook, lookAtTls, type CertificateLook, type TlsLook } from './tls-look.js';
export { openSocket } from './transport.js';
export type { TlsMaterial } from './tls-material.js';
export type { ProtocolVersion, VersionPolicy } from './version-memory.js';
