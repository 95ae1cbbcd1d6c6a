/** The worker of the second limit: it gives each content back by a call of its own. Its arguments: its socket, the agent's. */
import { credentials, Server, ServerCredentials, type sendUnaryData, type ServerUnaryCall } from '@grpc/grpc-js';
import { type Data, DispatcherClient, type Response, WorkerService } from '../../protocol/generated/yggdrasil.js';
import { UNLIMITED } from './limit-sizes.js';

const [ownSocket = '', agentSocket = ''] = process.argv.slice(2);
const agent = new DispatcherClient(`unix:${agentSocket}`, credentials.createInsecure(), UNLIMITED);
const server = new Server(UNLIMITED);
server.addService(WorkerService, {
  send: (call: ServerUnaryCall<Data, Response>, done: sendUnaryData<Response>) => {
    agent.send(call.request, (error) => {
      if (error === null) done(null, { response: Buffer.alloc(0) });
      else done(error);
    });
  },
});
await new Promise<void>((resolve, reject) => {
  server.bindAsync(`unix:${ownSocket}`, ServerCredentials.createInsecure(), (error) =>
    error === null ? resolve() : reject(error),
  );
});
process.once('SIGTERM', () => process.exit(0));
process.stdout.write('ready\n');
