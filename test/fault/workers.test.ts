/** Workers that crash, hang and answer too late, under the built daemon and a real broker (CONTRACT 1.4 to 1.6). */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { makeBench, type Bench } from '../support/bench.js';
import { bookWorker, heldUntil, isRunning, readBook, RETURNING_ECHO } from '../support/book-worker.js';
import { fault } from '../support/fault.js';
import { enter, Ledger } from '../support/ledger.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import { between } from '../support/seeded.js';
import {
  answered,
  answersTo,
  assertAllAnswered,
  describeSpans,
  orderOfAnswers,
  roundTrips,
  sendBurst,
} from '../support/traffic.js';
import type { LogEntry, Yggd } from '../support/yggd.js';

const skip = mosquittoMissing;

/** Kills of one round, the worker coming back by itself after each; then it is replaced, which clears its back-off. */
const KILLS = 3;
const MESSAGES = 250;

for (const concurrency of [1, 16]) {
  fault('workers', `crash: kill -9 under load, ${concurrency} in flight`, { skip }, async (run) => {
    await using bench = await makeBench();
    const { home, operator } = bench;
    // On the stream more is in flight than is in hand, and all of that goes one at a time after a kill: here a kill
    // must find several of them together.
    const options = { options: `concurrency: ${concurrency}, transport: 'unary'`, body: RETURNING_ECHO };
    await home.addProgram('book-worker', bookWorker(home, 'book-worker', options));
    const yggd = await bench.startWith(['book']);
    const ledger = new Ledger();
    for (const round of run.each(1, 34)) {
      const since = yggd.log.length;
      operator.forget();
      const burst = sendBurst(operator, 'book', MESSAGES);
      for (let kill = 0; kill < KILLS; kill++) {
        const soFar = answersTo(operator, burst.ids).size;
        // Those that were in flight at the kill before have to be through: they went one at a time.
        const more = between(run.random, concurrency + 1, MESSAGES / 4);
        await answered(operator, burst.ids, Math.min(MESSAGES, soFar + more));
        await new Promise((resolve) => setTimeout(resolve, between(run.random, 0, 20)));
        await ledger.harm('worker', () => killWorker(bench, yggd, 'book-worker'));
        run.killed('worker');
      }
      await burst.acknowledged(MESSAGES);
      for (const id of burst.ids) ledger.note('taken', id);
      await answered(operator, burst.ids);
      assert.equal(assertAllAnswered(operator, burst.ids), 0, 'a result is published once');
      if (concurrency === 1) assertOrder(bench, burst.ids, failures(yggd, since));
      else assert.deepEqual(failures(yggd, since), [], 'with several in flight none is to blame');
      // The next kill must find the new one: the death of one that is being replaced is no crash.
      const isReplaced = yggd.next('dispatcher.registered', (entry) => entry['worker'] === 'book-worker');
      await home.addProgram('book-worker', bookWorker(home, 'book-worker', { ...options, before: `// ${round}` }));
      await isReplaced;
    }
    enter(ledger, { operator, home, worker: 'book-worker' });
    const { messages, duplicated } = ledger.assertSound();
    run.count(messages, duplicated.length);
    assert.deepEqual(readBook(home, 'book-worker').overlaps, []);
  });
}

/** The order of the first answers is that of the sending, but for those that failed and gave up their place. */
function assertOrder(bench: Bench, ids: readonly string[], failed: readonly string[]): void {
  const kept = (id: string): boolean => !failed.includes(id);
  assert.deepEqual(orderOfAnswers(bench.operator, ids).filter(kept), ids.filter(kept));
}

/** Ids of the messages that failed an attempt, one entry for each, since the log had so many lines. */
function failures(yggd: Yggd, since = 0): string[] {
  return yggd.log
    .slice(since)
    .filter(({ event }) => event === 'dispatcher.retry')
    .map((entry) => String(entry['messageId']));
}

/** kill -9 of the worker once one runs and has registered; resolves when the agent has seen it die. */
async function killWorker(bench: Bench, yggd: Yggd, worker: string): Promise<void> {
  const isIt = (entry: LogEntry): boolean => entry['worker'] === worker;
  await yggd.line('dispatcher.registered', (entry) => isIt(entry) && isRunning(Number(entry['pid'])));
  const running = readBook(bench.home, worker).starts.filter(isRunning);
  assert.equal(running.length, 1, 'one copy runs');
  const died = yggd.next('worker.died', isIt);
  for (const pid of running) process.kill(pid, 'SIGKILL');
  await died;
}

fault('workers', 'crash: one message kills its worker each time, the others are fine', { skip }, async (run) => {
  for (const _ of run.each(1, 5)) {
    await using bench = await makeBench();
    const { home, operator } = bench;
    const body = `if (message.content.toString() === '"poison"') process.kill(process.pid, 'SIGKILL');
      await new Promise((resolve) => setTimeout(resolve, 20));
      ${RETURNING_ECHO}`;
    await home.addProgram('ill-worker', bookWorker(home, 'ill-worker', { options: 'concurrency: 8', body }));
    const yggd = await bench.startWith(['ill'], ['--max-attempts=2']);
    const ledger = new Ledger();
    const at = between(run.random, 0, 59);
    const burst = sendBurst(operator, 'ill', 60, (n) => (n === at ? '"poison"' : String(n)));
    const poison = burst.ids[at] ?? '';
    const others = burst.ids.filter((id) => id !== poison);
    const died = (): number => yggd.log.filter(({ event }) => event === 'worker.died').length;
    await ledger.harm('worker', () => answered(operator, burst.ids));
    for (const id of others) ledger.note('taken', id);
    const failed = await operator.answerTo(poison);
    assert.equal(failed.metadata?.['error-code'], 'worker-failed');
    assert.match(failed.metadata['error'] ?? '', /died while it had this message \(attempt 2 of 2\)/);
    assert.deepEqual(failures(yggd), [poison], 'one attempt was tried again, of the guilty one alone');
    for (const [id, answers] of answersTo(operator, others)) {
      assert.equal(answers.length, 1, id);
      assert.ok(answers.every(({ metadata }) => metadata?.['status'] === undefined));
    }
    // With others in its company (who may be missing), then alone for each attempt.
    assert.ok(died() >= 2 && died() <= 3, `${died()} deaths`);
    for (let n = died(); n > 0; n--) run.killed('worker');
    enter(ledger, { operator, home, worker: 'ill-worker' });
    ledger.assertSound();
    run.count(burst.ids.length, readBook(home, 'ill-worker').handled.length - burst.ids.length);
  }
});

fault('workers', 'hang in Send: the other workers go on as before', { skip }, async (run) => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  const gate = home.path('gate');
  await home.addWorker('echo-worker');
  const body = `await context.send({ content: '"begun"' }); ${heldUntil(gate)} return { content: '"done"' };`;
  await home.addProgram('blocked-worker', bookWorker(home, 'blocked-worker', { body }));
  await bench.startWith(['echo', 'blocked']);
  await roundTrips(operator, 'echo', 50);
  const before = await roundTrips(operator, 'echo', 200);

  const blocked = sendBurst(operator, 'blocked', 20);
  await operator.until((heard) => heard.content === 'begun', 'the blocked worker to have its message');
  const during = await roundTrips(operator, 'echo', 200);
  assert.equal(operator.heard.filter((heard) => heard.content === 'done').length, 0, 'it was blocked all the time');
  assert.equal(readBook(home, 'blocked-worker').handled.length, 1, 'one call at a time');
  run.test.diagnostic(`echo before: ${describeSpans(before)}`);
  run.test.diagnostic(`echo while another worker blocks in Send: ${describeSpans(during)}`);

  await writeFile(gate, '');
  const isDone = (id: string): Promise<unknown> =>
    operator.until((heard) => heard.response_to === id && heard.content === 'done', `the end of ${id}`);
  await Promise.all(blocked.ids.map(isDone));
  assert.deepEqual(readBook(home, 'blocked-worker').handled, blocked.ids);
  run.count(blocked.ids.length + 450);
});

const HANG_MS = 65_000;

fault('workers', 'hang in Send: 65 s with a standing event loop', { skip, isLongOnly: true }, async (run) => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  await home.addWorker('echo-worker');
  // The whole process stands still: no keepalive and no health check is answered.
  const body = `if (String(message.content) === '0') {
    console.log('hanging');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ${HANG_MS});
  }
  return { content: message.content };`;
  await home.addProgram('hung-worker', bookWorker(home, 'hung-worker', { body }));
  const yggd = await bench.startWith(['echo', 'hung']);
  const before = await roundTrips(operator, 'echo', 500);
  const hung = sendBurst(operator, 'hung', 20);
  await yggd.line('worker.output', (entry) => entry.text === 'hanging');
  const started = performance.now();
  const during: number[] = [];
  while (performance.now() - started < HANG_MS - 2_000) during.push(...(await roundTrips(operator, 'echo', 50)));
  assert.equal(answersTo(operator, hung.ids).size, 0);
  run.test.diagnostic(`${before.length} echoes before: ${describeSpans(before)}`);
  run.test.diagnostic(`${during.length} echoes while another worker hangs: ${describeSpans(during)}`);
  await answered(operator, hung.ids);
  assert.equal(assertAllAnswered(operator, hung.ids), 0);
  const { handled, starts } = readBook(home, 'hung-worker');
  assert.deepEqual(handled, hung.ids);
  assert.equal(starts.length, 1, 'it was not restarted for being slow');
  run.count(hung.ids.length + before.length + during.length);
});

/** Writes down when a message is begun while an earlier run of it, or a child of that, is alive. */
const NEVER_TWICE = `const begun = readFileSync(BOOK, 'utf8').split('\\n').filter((line) => line.startsWith('run ' + message.messageId));
  for (const line of begun) for (const pid of line.split(' ').slice(2))
    if (isAlive(pid)) write('overlap ' + process.pid + ' found ' + line);
  const child = spawn('/bin/sh', ['-c', 'trap "" TERM; while :; do sleep 0.1; done'], { stdio: 'ignore', detached: true });
  write('run ' + message.messageId + ' ' + process.pid + ' ' + child.pid);`;

fault('workers', 'hang in Send with a deadline: the tree ends first, then again', { skip }, async (run) => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  await home.addWorker('echo-worker');
  await home.writeWorkerFile('late-worker', 'deadline = "400ms"\nstop-timeout = "200ms"\n');
  const body = `${NEVER_TWICE}
    // The first run of each third message hangs, whatever it is told.
    if (begun.length === 0 && Number(message.content) % 3 === 1) await new Promise(() => undefined);
    child.kill('SIGKILL');
    ${RETURNING_ECHO}`;
  const late = { body, options: 'concurrency: 2, stopTimeout: 60000' };
  await home.addProgram('late-worker', bookWorker(home, 'late-worker', late));
  const yggd = await bench.startWith(['echo', 'late']);
  const ledger = new Ledger();
  for (const round of run.each(1, 20)) {
    yggd.forget();
    operator.forget();
    const burst = sendBurst(operator, 'late', 6);
    const hanging = burst.ids.filter((_, n) => n % 3 === 1);
    const during = await ledger.harm('worker', async () => {
      await yggd.line('dispatcher.unhealthy');
      const spans = await roundTrips(operator, 'echo', 20);
      await answered(operator, burst.ids);
      return spans;
    });
    run.test.diagnostic(`echo while another worker is stopped for its deadline: ${describeSpans(during)}`);
    assert.equal(assertAllAnswered(operator, burst.ids), 0);
    assert.deepEqual(failures(yggd).sort(), hanging, 'each that hung failed once, and no other');
    for (const id of burst.ids) ledger.note('taken', id);
    run.count(26, hanging.length);
    for (const _ of hanging) run.killed('worker');
    await home.addProgram('late-worker', bookWorker(home, 'late-worker', { ...late, before: `// ${round}` }));
  }
  enter(ledger, { operator, home, worker: 'late-worker' });
  ledger.assertSound();
  assert.deepEqual(readBook(home, 'late-worker').overlaps, [], 'no message ran twice at once');
});

fault('workers', 'answer after the deadline: it counts, and runs once', { skip }, async (run) => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  await home.writeWorkerFile('slow-worker', 'deadline = "300ms"\n');
  // It ends its work only when it is being stopped for being late.
  const body = `if (message.content.toString() === '0')
      await new Promise((resolve) => context.signal.addEventListener('abort', resolve, { once: true }));
    ${RETURNING_ECHO}`;
  await home.addProgram('slow-worker', bookWorker(home, 'slow-worker', { body }));
  const yggd = await bench.startWith(['slow']);
  const burst = sendBurst(operator, 'slow', 10);
  await answered(operator, burst.ids);
  assert.equal(assertAllAnswered(operator, burst.ids), 0);
  await yggd.line('worker.stopped');
  const { handled, starts } = readBook(home, 'slow-worker');
  assert.deepEqual(handled, burst.ids, 'each once, in order');
  assert.equal(starts.length, 2);
  assert.deepEqual(failures(yggd), []);
  run.count(burst.ids.length);
});
