/** The socket of one worker, whatever the dispatcher behind it does. */
import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { Client, credentials } from '@grpc/grpc-js';
import { Config, DispatcherService } from '../../../protocol/generated/yggdrasil.js';
import { serve } from '../../../src/dispatcher/service.js';
import { PING_LEAVES_WITHIN } from '../../../src/grpc/grpc-server.js';
import { FakeClock } from '../../support/clock.js';
import { frame, GOODBYE, OPEN, PING } from '../../support/hostile-http2.js';
import { recordingLog } from '../../support/log.js';
import { tempDir } from '../../support/temp.js';

const unused = (): never => assert.fail('it was called');

test('a worker whose broken connections took all its places can connect again', { timeout: 30_000 }, async () => {
  await using directory = await tempDir();
  const path = join(directory.path, 's');
  const clock = new FakeClock();
  const config = Config.decode(Buffer.of());
  const calls = { register: unused, send: unused, config: () => config, connect: unused, transfer: unused };
  const options = { path, clock, log: recordingLog(), admits: () => true, maxReceive: 1_000, answerWithin: 1_000 };
  const server = await serve({ ...options, calls });
  const open = (): Promise<Socket> =>
    new Promise((resolve, reject) => {
      const socket = connect(path, () => resolve(socket));
      socket.once('error', reject);
    });
  for (let n = 0; n < 256; n++) {
    const socket = await open();
    // A ping of one byte: HTTP/2 is over with its answer, and nothing more is read.
    socket.write(Buffer.concat([OPEN, frame(PING, 0, 0, Buffer.of(1))]));
    for await (const chunk of socket as AsyncIterable<Buffer>) if (chunk.includes(GOODBYE)) break;
  }
  for (let n = 0; n < 2; n++) {
    await clock.advance(PING_LEAVES_WITHIN);
    const socket = await open();
    await new Promise((resolve) => socket.resume().once('close', resolve));
    for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
  }
  const client = new Client(`unix:${path}`, credentials.createInsecure());
  const { path: method, requestSerialize, responseDeserialize } = DispatcherService.getConfig;
  const answer = await new Promise((resolve, reject) => {
    client.makeUnaryRequest(method, requestSerialize, responseDeserialize, {}, (error, given) =>
      error === null ? resolve(given) : reject(error),
    );
  });
  assert.deepEqual(answer, config);
  client.close();
  await server.close();
});
