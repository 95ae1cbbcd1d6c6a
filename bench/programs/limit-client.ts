/** The mqtt package on a socket that does not wait, as a limit uses it. */
import { Socket } from 'node:net';
import { connectAsync, type MqttClient } from 'mqtt';

/** A connection without TCP's delay; the package does not set that by itself. */
export async function connect(port: number): Promise<MqttClient> {
  const client = await connectAsync(`mqtt://127.0.0.1:${port}`, { protocolVersion: 5, log: () => undefined });
  if (client.stream instanceof Socket) client.stream.setNoDelay(true);
  process.once('SIGTERM', () => process.exit(0));
  return client;
}
