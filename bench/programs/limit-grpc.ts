/**
 * The second limit: MQTT, a unary call to a worker, a unary call back, MQTT; no journal, no checks. Its arguments: the
 * broker's port, what stands before the topics, the socket to serve, the worker's socket.
 */
import { credentials, Server, ServerCredentials, type sendUnaryData, type ServerUnaryCall } from '@grpc/grpc-js';
import { type Data, DispatcherService, type Response, WorkerClient } from '../../protocol/generated/yggdrasil.js';
import { connect } from './limit-client.js';
import { UNLIMITED } from './limit-sizes.js';

const [port = '', topics = '', ownSocket = '', workerSocket = ''] = process.argv.slice(2);
const client = await connect(Number(port));
const worker = new WorkerClient(`unix:${workerSocket}`, credentials.createInsecure(), UNLIMITED);

const server = new Server(UNLIMITED);
server.addService(DispatcherService, {
  send: (call: ServerUnaryCall<Data, Response>, done: sendUnaryData<Response>) => {
    done(null, { response: Buffer.alloc(0) });
    client.publish(`${topics}/data/out`, call.request.content, { qos: 1 });
  },
});
await new Promise<void>((resolve, reject) => {
  server.bindAsync(`unix:${ownSocket}`, ServerCredentials.createInsecure(), (error) =>
    error === null ? resolve() : reject(error),
  );
});
client.on('message', (_topic, content) => {
  const data: Data = { messageId: '', metadata: {}, content, responseTo: '', directive: 'echo' };
  worker.send(data, (error) => {
    if (error !== null) process.stderr.write(`${error.message}\n`);
  });
});
await client.subscribeAsync(`${topics}/data/in`, { qos: 1 });
process.stdout.write('ready\n');
