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
  const broker = `--broker=mqtt://${username}:${password}@${host}:${port} --topic-prefix=${topicPrefix}`;
  return `
It stays up until Ctrl-C. In another terminal:

  see all that the agent says:
    ${ygg} listen ${clientId} ${broker}
  send a message to the echo worker, and wait for the answer:
    ${ygg} send ${clientId} echo --content hello --wait ${broker}
  is it there?
    ${ygg} ping ${clientId} ${broker}

A worker of your own: put an executable whose name ends in "worker" into ${workerDir}, for example:
    #!/bin/sh
    exec ${ygg} worker run --handler shout --text -- /usr/bin/tr a-z A-Z
`;
}
