/** The workers that ship, on the agent's real dispatcher and datastore: a message in, its answer out, byte for byte. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { test } from 'node:test';
import type { Datastore } from '../../src/datastore/index.js';
import { metadataFrom } from '../../src/message/codec.js';
import { parseDirective, replyMessageId } from '../../src/message/ids.js';
import type { OutboundRecord } from '../../src/message/record.js';
import { openTestStore } from '../support/store.js';
import { startWorkerProcess } from '../support/worker-process.js';
import { Harness, SETTINGS, workerName } from '../unit/dispatcher/harness.js';

const SHIPPED = ['--import', 'tsx'];
const hasGrpc = spawnSync('/usr/bin/python3', ['-c', 'import grpc, google.protobuf']).status === 0;
const RUN = resolve('test/support/worker-run-main.ts');

const WORKERS = [
  { name: 'echo-worker', directive: 'echo', file: process.execPath, args: [...SHIPPED, 'workers/echo/echo-worker.ts'] },
  {
    name: 'python-echo-worker',
    directive: 'python-echo',
    file: resolve('workers/python-echo/python-echo-worker'),
    args: [],
    skip: hasGrpc ? false : 'needs python3-grpcio',
  },
  {
    name: 'python-stream-echo-worker',
    directive: 'python-stream-echo',
    file: resolve('workers/python-stream-echo/python-stream-echo-worker'),
    args: [],
    skip: hasGrpc ? false : 'needs python3-grpcio',
  },
  {
    name: 'cat-worker',
    directive: 'cat',
    file: process.execPath,
    args: [...SHIPPED, RUN, 'worker', 'run', '--handler', 'cat', '--', '/bin/cat'],
  },
];

for (const { name, directive, file, args, skip = false } of WORKERS) {
  test(`${name} answers through the real dispatcher, and its receipt ends the message`, { skip }, async () => {
    await using opened = await openTestStore({});
    await using harness = await Harness.over<Datastore>(opened.store);
    const { address } = await harness.dispatcher.prepare({ name: workerName(name), settings: SETTINGS });
    const dispatched = harness.dispatcher.dataDispatch.next(harness.scope.signal);
    const content = Buffer.from(' { "b": 12345678901234567890, "a": 1.0, "\\u00e9": [] }');
    const accepted = harness.store.accept({
      messageId: 'request-1',
      responseTo: '',
      directive: parseDirective(directive)!,
      metadata: metadataFrom([]),
      priority: 5,
      arrivedAt: Date.now(),
      expiresAt: undefined,
      replyTopic: undefined,
      content,
    });
    assert.ok(accepted.kind === 'accepted');
    await accepted.durable;
    harness.store.markReady(accepted.key);
    harness.dispatcher.enqueue(accepted.key); // Before the worker is there: it waits for it.

    await using worker = startWorkerProcess(file, args, { YGG_SOCKET_ADDR: address });
    const { outcome } = await dispatched;
    assert.equal(outcome.kind, 'delivered');
    assert.equal(harness.returned.length, 1);
    const reply: OutboundRecord | undefined = harness.store.outbound(harness.returned[0]!);
    assert.ok(reply !== undefined);
    assert.deepEqual(await harness.store.readContent(reply.content), content);
    assert.deepEqual(
      [reply.messageId, reply.responseTo, reply.directive],
      [replyMessageId('request-1', 0), 'request-1', directive],
    );
    assert.deepEqual(await worker.stop(), { code: 0, signal: null }, worker.stderr());
  });
}
