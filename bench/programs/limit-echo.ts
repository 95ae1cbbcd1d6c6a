/**
 * The first limit: the mqtt package alone, which publishes on `data/out` what it gets on `data/in`, QoS 1 in and out.
 * Its arguments: the broker's port, and what stands before the topics.
 */
import { connect } from './limit-client.js';

const [port = '', topics = ''] = process.argv.slice(2);
const client = await connect(Number(port));
client.on('message', (_topic, payload) => {
  client.publish(`${topics}/data/out`, payload, { qos: 1 });
});
await client.subscribeAsync(`${topics}/data/in`, { qos: 1 });
process.stdout.write('ready\n');
