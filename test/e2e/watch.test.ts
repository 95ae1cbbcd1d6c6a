/** What an operator sees of an agent at work: the steps of a message, events as they happen, the live view. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { AdminClient, adminSocket } from '../../src/admin/index.js';
import { makeBench } from '../support/bench.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import type { Operator } from '../support/operator.js';
import { Terminal } from '../support/terminal.js';
import { ENVIRONMENT, ygg, yggInto, yggJson, yggOnTerminal, yggWords } from '../support/ygg.js';

const skip = mosquittoMissing;

interface TraceView {
  readonly key: number | null;
  readonly direction: string;
  readonly message_id: string;
  readonly state: string;
  readonly steps: readonly { readonly step: string; readonly at_ms: number; readonly detail: string | null }[];
}

interface EventView {
  readonly kind: string;
  readonly event: string;
  readonly message_id?: string;
  readonly worker?: string;
  readonly directive?: string;
}

/** How often an agent is asked for what must be there soon. */
const MOST_ASKED = 100;

/** Of the steps of a message and its answer, in the order of time. */
function stepsOf(traced: readonly TraceView[]): readonly string[] {
  return traced
    .flatMap(({ direction, steps }) => steps.map(({ step, at_ms: at }) => ({ step: `${direction} ${step}`, at })))
    .sort((a, b) => a.at - b.at)
    .map(({ step }) => step);
}

/** Sends a message after the other until something has come of it. */
async function sendUntil(operator: Operator, done: Promise<unknown>): Promise<void> {
  const state = { isDone: false };
  const settled = (): void => void (state.isDone = true);
  done.then(settled, settled);
  while (!state.isDone) await operator.answerTo(await operator.send('echo', '0'));
  await done;
}

test('a message is traced from the broker to the worker and back, by its id and by its keys', { skip }, async () => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  await home.addWorker('echo-worker');
  const yggd = await bench.startWith(['echo']);
  const id = await operator.send('echo', '"x"');
  await operator.answerTo(id);
  const trace = async (of: string): Promise<readonly TraceView[]> =>
    (await yggJson(home, ['messages', 'trace', of])) as readonly TraceView[];
  let traced = await trace(id);
  for (let asked = 0; traced[1]?.state !== 'sent'; asked++) {
    assert.ok(asked < MOST_ASKED, `no end of it in ${JSON.stringify(traced)}`);
    traced = await trace(id);
  }
  const steps = stepsOf(traced);
  assert.deepEqual(
    [...steps].sort(),
    [
      'inbound delivered',
      'inbound dispatching',
      'inbound journaled',
      'inbound ready',
      'inbound received',
      'outbound journaled',
      'outbound returned',
      'outbound sending',
      'outbound sent',
    ].sort(),
  );
  assert.deepEqual(steps.slice(0, 5), [
    'inbound received',
    'inbound journaled',
    'inbound ready',
    'inbound dispatching',
    'outbound returned',
  ]);
  assert.equal(steps.at(-1), 'outbound sent');
  for (const { key } of traced) assert.deepEqual(stepsOf(await trace(String(key))), steps);

  const piped = await ygg(home, ['messages', 'trace', id]);
  assert.match(piped.stdout, /^\d+\tin\treceived\t\d{4}-.*Z\t0\.00 ms\t\n/);
  const shown = await yggOnTerminal(home, ['messages', 'trace', id]);
  assert.match(shown.stdout, new RegExp(`message +${id}\\r\\ndirective +echo\\r\\nstate +delivered\\r\\n`));
  assert.match(shown.stdout, /KEY +WAY +STEP +TIME +AFTER +DETAIL/);

  // What is in memory goes with the agent; the journal remembers how it ended.
  await yggd.stop();
  await bench.start();
  const [remembered] = await trace(id);
  assert.deepEqual([remembered?.key, remembered?.state], [null, 'delivered']);
  assert.equal(remembered?.steps[0]?.detail, 'as the journal has it');
});

test('the trace of a message that waits, is retried and given up', { skip }, async () => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  await home.addRun('bad-worker', ['--handler', 'bad'], ['/bin/sh', '-c', 'exit 75']);
  const yggd = await bench.startWith(['bad'], ['--max-attempts=2']);
  const id = await operator.send('bad', '1');
  assert.equal((await operator.answerTo(id)).metadata?.['error-code'], 'worker-failed');
  const [traced, answer] = (await yggJson(home, ['messages', 'trace', id])) as readonly TraceView[];
  assert.equal(traced?.state, 'dead');
  const dispatched = traced.steps.find(({ step }) => step === 'dispatching');
  assert.equal(dispatched?.detail, 'try 2');
  assert.ok(traced.steps.some(({ step }) => step === 'put-back'));
  assert.equal(answer?.direction, 'outbound');
  // Another agent on the same journal knows of it what was kept.
  await yggd.stop();
  await bench.start();
  const [dead] = (await yggJson(home, ['messages', 'trace', id])) as readonly TraceView[];
  assert.deepEqual([dead?.state, dead?.steps.map(({ step }) => step)], ['dead', ['dead']]);
  assert.match(dead?.steps[0]?.detail ?? '', /exit/);
  const waiting = await operator.send('nobody', '1');
  let steps: readonly string[] = [];
  for (let asked = 0; steps.length < 2; asked++) {
    assert.ok(asked < MOST_ASKED, `it is not traced: ${steps.join()}`);
    const run = await ygg(home, ['messages', 'trace', waiting, '--json']);
    if (run.code === 0) steps = stepsOf(JSON.parse(run.stdout) as readonly TraceView[]);
  }
  assert.deepEqual(steps, ['inbound received', 'inbound journaled']);
});

test('events are followed in a pipe, as JSON and of one kind only', { skip }, async () => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  await home.addWorker('echo-worker');
  const yggd = await bench.startWith(['echo']);
  const follow = spawn(process.execPath, yggWords(home, ['events', '--json']), {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: ENVIRONMENT,
  });
  const seen: EventView[] = [];
  const lines = createInterface({ input: follow.stdout })[Symbol.asyncIterator]();
  const until = async (accept: (event: EventView) => boolean): Promise<void> => {
    for (;;) {
      const line = await lines.next();
      assert.notEqual(line.done, true, `the events ended: ${JSON.stringify(seen)}`);
      const event = JSON.parse(String(line.value)) as EventView;
      seen.push(event);
      if (accept(event)) return;
    }
  };
  // Until it listens nothing is told: a message after the other, and one of them is the first.
  const first = until(() => true);
  await sendUntil(operator, first);

  const id = await operator.send('echo', '"x"');
  await until(({ event, message_id }) => event === 'journaled' && message_id === id);
  await until(({ event, message_id }) => event === 'delivered' && message_id === id);
  const again = yggd.next('dispatcher.registered');
  await ygg(home, ['workers', 'restart', 'echo-worker']);
  await until(({ kind, event, worker }) => kind === 'worker' && event === 'stopping' && worker === 'echo-worker');
  await until(
    ({ event, worker, directive }) => event === 'registered' && worker === 'echo-worker' && directive === 'echo',
  );
  await again;
  await ygg(home, ['link', 'down']);
  await until(({ kind, event }) => kind === 'connection' && event === 'down');
  await ygg(home, ['link', 'up']);
  await until(({ kind, event }) => kind === 'connection' && event === 'up');
  follow.kill('SIGINT');

  const some = ygg(home, ['events', '--kind', 'message', '--count', '3']);
  await sendUntil(operator, some);
  const { code, stdout } = await some;
  assert.equal(code, 0);
  assert.match(stdout, /^(?:\d{4}-\d\d-\d\dT[\d:.]+Z\tmessage\t[a-z-]+\t\d+\t[^\t]*\t[^\t]*\t[^\t]*\n){3}$/);
  const pipe = yggInto('head -n 1', home, ['events']);
  await sendUntil(operator, pipe);
  assert.deepEqual([(await pipe).code, (await pipe).stderr], [0, '']);
});

test('whoever reads events too slowly is told how many were missed, and holds up nothing', { skip }, async () => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  await home.addWorker('echo-worker');
  await bench.startWith(['echo']);
  using client = await AdminClient.connect(adminSocket(home.path('run')));
  const scope = new AbortController();
  const events = client.events(false, scope.signal);
  await events.next();
  // Until the answer to the last of them nobody reads: more happens than is kept and in the buffers on the way.
  const ids: string[] = [];
  for (let n = 0; n < 3_000; n++) ids.push(await operator.send('echo', String(n)));
  await operator.answerTo(ids.at(-1) ?? '');
  let read = 0;
  let missed = 0n;
  for await (const batch of events) {
    read += batch.events.length;
    missed += batch.missed;
    if (missed > 0n) break;
  }
  assert.ok(missed > 100n, `${missed} missed, ${read} read`);
  scope.abort();
});

test('top shows the agent live, and leaves the terminal as it was', { skip }, async () => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  await home.addWorker('echo-worker');
  await bench.startWith(['echo']);
  {
    await using terminal = Terminal.open(home, ['top']);
    await terminal.shows('\u001b[?1049h\u001b[?25l');
    await terminal.shows(/agent {5}yggd .*client id host-1/);
    await terminal.shows(/echo-worker +- +running/);
    await operator.answerTo(await operator.send('echo', '1'));
    await terminal.shows(/echo-worker +\d+\.\d +running/);
    await ygg(home, ['link', 'down']);
    await terminal.shows(/connection {2}down/);
    await terminal.shows('\u001b[31mbroker    down');
    await operator.send('gone', '1');
    terminal.type('q');
    assert.equal(await terminal.ended, 0);
    assert.ok(terminal.text.endsWith('\u001b[?25h\u001b[?1049l'), JSON.stringify(terminal.text.slice(-200)));
  }
  await using plain = Terminal.open(home, ['top'], { NO_COLOR: '1' });
  await plain.shows(/q or Ctrl-C ends it/);
  plain.type('\u0003');
  assert.equal(await plain.ended, 0);
  assert.ok(!plain.text.includes('\u001b[31m') && !plain.text.includes('\u001b[1m'));
});

test('top ends with the agent, and is refused where there is no terminal', { skip }, async () => {
  await using bench = await makeBench();
  const { home } = bench;
  const yggd = await bench.start();
  await using terminal = Terminal.open(home, ['top']);
  await terminal.shows(/q or Ctrl-C ends it/);
  await yggd.stop();
  assert.equal(await terminal.ended, 3);
  assert.ok(terminal.text.includes('\u001b[?1049lygg: the agent went away while it was asked'), terminal.text);
  const piped = await ygg(home, ['top']);
  assert.deepEqual([piped.code, piped.stdout], [64, '']);
  assert.match(piped.stderr, /^ygg: top needs a terminal to draw on; `ygg status --watch`/);
});
