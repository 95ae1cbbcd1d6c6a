/**
 * Commands to type against an embedded broker, with its address and password in them. For a terminal only: they must
 * not get into a log.
 */
import type { BrokerAddress } from '../broker/index.js';

export interface ExampleOptions {
  readonly address: BrokerAddress;
  readonly topicPrefix: string;
  readonly clientId: string;
  readonly workerDir: string;
  /** How to call `ygg` from here. */
  readonly ygg: string;
}

/** A text of several lines: how to listen, send, ping, and add a worker. */
export function exampleCommands({ address, topicPrefix, clientId, workerDir, ygg }: ExampleOptions): string {
  const { host, port, username, password } = address;
  const access = `-h ${host} -p ${port} -u ${username} -P ${password}`;
  const topic = `${topicPrefix}/${clientId}`;
  const ids = `"message_id":"'$(cat /proc/sys/kernel/random/uuid)'","version":1,"sent":"'$(date -Is)'"`;
  const message = `{"type":"data",${ids},"directive":"echo","metadata":{},"content":"hello"}`;
  const ping = `{"type":"command",${ids},"content":{"command":"ping"}}`;
  return `
It stays up until Ctrl-C. In another terminal (mosquitto_sub and mosquitto_pub: Debian package mosquitto-clients):

  see all that the agent says:
    mosquitto_sub ${access} -v -t '${topic}/+/out'
  send a message to the echo worker:
    mosquitto_pub ${access} -q 1 -t ${topic}/data/in -m '${message}'
  is it there?
    mosquitto_pub ${access} -q 1 -t ${topic}/control/in -m '${ping}'

A worker of your own: put an executable whose name ends in "worker" into ${workerDir}, for example:
    #!/bin/sh
    exec ${ygg} worker run --handler shout --text -- /usr/bin/tr a-z A-Z
`;
}
