/** An agent as a library that is watched: traces, metrics that come and go, and nothing of either when nobody asked. */
import assert from 'node:assert/strict';
import { after, afterEach, suite, test } from 'node:test';
import { SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
  type ReadableSpan,
} from '@opentelemetry/sdk-trace-base';
import { MemoryJournal } from '../../src/datastore/index.js';
import { silentLog } from '../../src/log/log.js';
import { LoopWatch, MetricsPost, Registry } from '../../src/metrics/index.js';
import { systemClock } from '../../src/time.js';
import { makeAgent } from '../support/agent.js';
import { fillWorkerDirectory } from '../support/agent-cycles.js';
import { makeBench } from '../support/bench.js';
import { assertNothingMore, heldAtRest } from '../support/leaks.js';
import { recordingLog } from '../support/log.js';
import { ask } from '../support/metrics.js';
import { mosquittoMissing, startMosquitto } from '../support/mosquitto.js';
import { Operator } from '../support/operator.js';
import { tempDir } from '../support/temp.js';

const skip = mosquittoMissing;
const NOWHERE = '--broker=mqtt://127.0.0.1:1';
const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const PARENT = `00-${TRACE}-00f067aa0ba902b7-01`;

/** An agent's own timers let the process end. */
const alive = setInterval(() => undefined, 2 ** 30);
after(() => clearInterval(alive));
afterEach(() => trace.disable());

suite('traces', { timeout: 120_000 }, () => {
  test('traceparent reaches the worker and its answers; without one nothing is added', { skip }, async () => {
    await using bench = await makeBench();
    const { home, operator } = bench;
    // Says what it was given, in its content; the second answer has a trace of its own.
    await home.addSdkWorker(
      'seer-worker',
      `await serve({ handler: 'seer' }, ({ metadata }) => [
         { content: JSON.stringify(metadata), metadata: { kept: 'yes' } },
         { content: '"own"', metadata: { traceparent: 'own', tracestate: 'a=b' } },
       ]);`,
    );
    // By the calls of the original.
    await home.addSdkWorker(
      'late-worker',
      `await serve({ handler: 'late', transport: 'unary' }, () => jsonReply('done'));`,
    );
    await bench.startWith(['seer', 'late']);
    const answers = async (id: string): Promise<readonly (Record<string, string> | undefined)[]> => {
      const first = await operator.answerTo(id);
      const second = await operator.until((heard) => heard.response_to === id && heard !== first, 'a second answer');
      return [first, second].map(({ metadata }) => metadata);
    };
    const tracestate = 'vendor=value,other=1';
    const traced = await operator.send('seer', '1', { metadata: { traceparent: PARENT, tracestate, more: 'x' } });
    const [kept, own] = await answers(traced);
    assert.deepEqual(kept, { kept: 'yes', traceparent: PARENT, tracestate });
    assert.deepEqual(own, { traceparent: 'own', tracestate: 'a=b' });
    const { content } = await operator.answerTo(traced);
    assert.deepEqual(content, { traceparent: PARENT, tracestate, more: 'x' });

    const plain = await operator.send('seer', '1', { metadata: { tracestate, traceparent: 'nonsense' } });
    assert.deepEqual((await answers(plain))[0], { kept: 'yes' });
    const late = await operator.send('late', '1', { metadata: { traceparent: PARENT } });
    assert.equal((await operator.answerTo(late)).metadata?.['traceparent'], PARENT);
    const bare = await operator.send('late', '1', {});
    assert.equal((await operator.answerTo(bare)).metadata?.['traceparent'], undefined);
    const expired = await operator.send('late', '1', {
      metadata: { traceparent: PARENT, expires: '2020-01-01T00:00:00Z' },
    });
    const { metadata } = await operator.answerTo(expired);
    assert.deepEqual([metadata?.['error-code'], metadata?.['traceparent']], ['expired', PARENT]);
  });

  test('a program that registered a provider gets spans of the trace that a message names', { skip }, async () => {
    const exporter = new InMemorySpanExporter();
    const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
    trace.setGlobalTracerProvider(provider);
    await using dir = await tempDir();
    await using broker = await startMosquitto();
    await using operator = await Operator.connect(broker.url, 'library');
    await fillWorkerDirectory(dir.path);
    const agent = await makeAgent(dir.path, [`--broker=${broker.url}`, '--metrics-listen=0']);
    await agent.start();
    const named = async (name: string, count: number): Promise<readonly ReadableSpan[]> => {
      for (const signal = AbortSignal.timeout(30_000); ; await new Promise((resolve) => setImmediate(resolve))) {
        const spans = exporter.getFinishedSpans().filter((span) => span.name === name);
        if (spans.length >= count) return spans;
        if (signal.aborted) throw new Error(`no ${count} spans ${name}`);
      }
    };
    try {
      await operator.status(({ dispatchers }) => 'echo' in dispatchers);
      const id = await operator.send('echo', '1', { metadata: { traceparent: PARENT, tracestate: 'a=b' } });
      await operator.answerTo(id);
      const spans = [
        ...(await named('receive echo', 1)),
        ...(await named('dispatch echo', 1)),
        ...(await named('publish result', 1)),
      ];
      assert.deepEqual(
        spans.map((span) => span.kind),
        [SpanKind.CONSUMER, SpanKind.CLIENT, SpanKind.PRODUCER],
      );
      for (const span of spans) {
        assert.equal(span.spanContext().traceId, TRACE, span.name);
        assert.equal(span.parentSpanContext?.spanId, '00f067aa0ba902b7', span.name);
        assert.equal(span.spanContext().traceState?.serialize(), 'a=b', span.name);
        assert.equal(span.status.code, SpanStatusCode.UNSET, span.name);
        assert.equal(span.duration[0] < 30, true, span.name);
      }
      assert.equal(spans[1]?.attributes['yggdrasil.outcome'], 'delivered');
      assert.equal(spans[0]?.attributes['messaging.message.id'], id);

      // One that names none begins a trace of its own, which those that follow belong to.
      exporter.reset();
      const other = await operator.send('echo', '1', {});
      assert.equal((await operator.answerTo(other)).metadata?.['traceparent'], undefined);
      const [received] = await named('receive echo', 1);
      const [published] = await named('publish result', 1);
      assert.equal(received?.parentSpanContext, undefined);
      assert.equal(published?.parentSpanContext?.spanId, received?.spanContext().spanId);
    } finally {
      await agent.stop(1000);
      await provider.shutdown();
    }
  });

  test('a provider that fails costs its spans and nothing else', { skip }, async () => {
    trace.setGlobalTracerProvider({
      getTracer: () => ({
        startSpan: () => {
          throw new Error('out of order');
        },
        startActiveSpan: () => {
          throw new Error('out of order');
        },
      }),
    });
    await using dir = await tempDir();
    await using broker = await startMosquitto();
    await using operator = await Operator.connect(broker.url, 'library');
    await fillWorkerDirectory(dir.path);
    const log = recordingLog();
    const agent = await makeAgent(dir.path, [`--broker=${broker.url}`], { log });
    await agent.start();
    try {
      await operator.status(({ dispatchers }) => 'echo' in dispatchers);
      for (let n = 0; n < 3; n++) await operator.answerTo(await operator.send('echo', String(n)));
    } finally {
      await agent.stop(1000);
    }
    assert.equal(log.lines.filter(({ event }) => event === 'trace.failed').length, 1);
  });
});

suite('coming and going', { timeout: 300_000 }, () => {
  test('metrics start and stop a thousand times and leave nothing behind', async () => {
    await using dir = await tempDir();
    const socketPath = `${dir.path}/m/metrics.sock`;
    const desk = {
      collect: () => Promise.resolve(),
      probe: () => Promise.resolve(),
      progress: () => ({ isGood: true, reasons: [], isJournalOpen: true }),
      broker: () => ({ state: 'up', broker: '', reason: '' }),
    };
    const once = async (round: number): Promise<void> => {
      const registry = new Registry();
      const loop = new LoopWatch(registry, systemClock);
      const address =
        round % 2 === 0
          ? ({ kind: 'unix', path: socketPath } as const)
          : ({ kind: 'tcp', host: '127.0.0.1', port: 0 } as const);
      const post = new MetricsPost({ address, hosts: [], registry, desk, clock: systemClock, log: silentLog });
      await post.start();
      loop.start();
      if (round % 10 === 0) assert.equal((await ask({ socketPath }, '/healthz')).status, 200);
      loop.collect();
      loop.stop();
      await post.stop();
      await post.stop();
    };
    for (let round = 0; round < 20; round++) await once(round);
    const before = await heldAtRest();
    for (let round = 0; round < 1000; round++) await once(round);
    await assertNothingMore(before);
  });

  test('while an agent starts it says what is not open yet, and nobody ends it for that', async () => {
    await using dir = await tempDir();
    let open = (): void => undefined;
    const gate = new Promise<void>((resolve) => (open = resolve));
    const journal = new (class extends MemoryJournal {
      override async open(): Promise<void> {
        await gate;
        await super.open();
      }
    })();
    const log = recordingLog();
    const agent = await makeAgent(dir.path, [NOWHERE, '--metrics-listen=0'], { journal, log });
    const started = agent.start();
    const { fields } = await log.line('metrics.listening');
    const where = { port: Number(String(fields['address']).split(':')[1]) };
    const answer = async (path: string): Promise<readonly [number, unknown]> => {
      const { status, body } = await ask(where, path);
      const { status: word, reasons } = JSON.parse(body) as { status: string; reasons: readonly string[] };
      return [status, [word, ...reasons]];
    };
    const missing = [
      'the journal is not open yet',
      'the sockets are not open yet',
      'the worker directory was not read yet',
    ];
    assert.deepEqual(await answer('/readyz'), [503, ['not ready', ...missing]]);
    assert.deepEqual(await answer('/healthz'), [200, ['starting', ...missing]]);
    const { body } = await ask(where, '/metrics');
    assert.match(body, /^yggdrasil_ready 0$/m);
    open();
    await started;
    assert.deepEqual(await answer('/readyz'), [200, ['ready']]);
    assert.deepEqual(await answer('/healthz'), [200, ['alive']]);
    await agent.stop(0);
    await assert.rejects(ask(where, '/healthz'), { code: 'ECONNREFUSED' });
  });

  test('a whole agent with metrics, fifty times; one whose port is taken leaves nothing open', async () => {
    await using dir = await tempDir();
    const argv = [NOWHERE, '--mqtt-reconnect-delay=1h', '--mqtt-reconnect-delay-max=1h'];
    const once = async (): Promise<void> => {
      const agent = await makeAgent(dir.path, [...argv, '--metrics-listen=0']);
      await agent.start();
      await agent.stop(0);
    };
    for (let round = 0; round < 4; round++) await once();
    const before = await heldAtRest();
    for (let round = 0; round < 50; round++) await once();
    await assertNothingMore(before);

    const log = recordingLog();
    const holder = await makeAgent(dir.path, [...argv, '--metrics-listen=0'], { log });
    await holder.start();
    const address = log.lines.find(({ event }) => event === 'metrics.listening')?.fields['address'];
    const taken = await makeAgent(`${dir.path}/b`, [...argv, `--metrics-listen=${String(address)}`]);
    await assert.rejects(taken.start(), { code: 'metrics.listen_failed' });
    await holder.stop(0);
    await assertNothingMore(before);
  });
});
