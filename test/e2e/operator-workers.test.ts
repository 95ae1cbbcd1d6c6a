/** The operator's hands on workers: stop, start, read what they write, free what they hold. A real agent and broker. */
import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { makeBench, type Bench } from '../support/bench.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import { FollowingYgg } from '../support/ygg-follow.js';
import { ygg, yggInto, yggJson, yggOnTerminal } from '../support/ygg.js';

const skip = mosquittoMissing;

/** C0, DEL and C1. */
function hasControl(text: string): boolean {
  return Array.from(text, (char) => char.charCodeAt(0)).some((code) => code < 0x20 || (code > 0x7e && code < 0xa0));
}

interface WorkerView {
  readonly name: string;
  readonly state: string;
  readonly pid: number | null;
  readonly detail: string;
  readonly directives: readonly string[];
  readonly delivered: number;
  readonly per_minute: number;
}

async function workerOf({ home }: Bench, name: string): Promise<WorkerView> {
  const workers = (await yggJson(home, ['workers'])) as readonly WorkerView[];
  const worker = workers.find((each) => each.name === name);
  if (worker === undefined) throw new Error(`there is no ${name}: ${JSON.stringify(workers)}`);
  return worker;
}

test(
  'a worker that was stopped by hand stays so over reloads, a new executable and a restart of the agent',
  { skip },
  async () => {
    await using bench = await makeBench();
    const { home, operator } = bench;
    await home.addWorker('echo-worker');
    const before = await bench.startWith(['echo']);
    const { pid } = await workerOf(bench, 'echo-worker');
    const stopped = await ygg(home, ['workers', 'stop', 'echo-worker']);
    assert.deepEqual([stopped.code, stopped.stdout, stopped.stderr], [0, 'echo-worker stopped\n', '']);
    // When the answer is there, the process is not.
    assert.throws(() => process.kill(pid ?? 0, 0), { code: 'ESRCH' });
    await operator.status(({ dispatchers }) => !('echo' in dispatchers));
    const id = await operator.send('echo', '"patience"');

    assert.equal((await ygg(home, ['workers', 'stop', 'echo-worker'])).stdout, 'echo-worker was stopped already\n');
    const restart = await ygg(home, ['workers', 'restart', 'echo-worker']);
    assert.deepEqual([restart.code, restart.stdout], [1, '']);
    assert.match(restart.stderr, /^ygg: echo-worker was stopped by hand: `ygg workers start echo-worker` starts it\n$/);
    before.child.kill('SIGHUP');
    await before.line('config.reloaded');
    assert.equal((await ygg(home, ['reload'])).code, 0);
    await home.addWorker('echo-worker');
    // It is looked at again when another one comes.
    await home.addWorker('echo-worker', 'other-worker');
    await before.line('worker.started', ({ worker }) => worker === 'other-worker');
    const held = await workerOf(bench, 'echo-worker');
    assert.deepEqual([held.state, held.pid, held.directives], ['stopped', null, []]);
    assert.match(held.detail, /^stopped by hand at \d{4}-.*Z; `ygg workers start echo-worker` starts it$/);
    assert.match((await yggOnTerminal(home, ['workers'])).stdout, /\r\necho-worker +stopped .* stopped by hand at /);

    await rm(home.path('workers', 'other-worker'));
    await before.stop();
    const after = await bench.start();
    assert.equal((await workerOf(bench, 'echo-worker')).detail, held.detail);
    const started = await yggJson(home, ['workers', 'start', 'echo-worker']);
    assert.deepEqual(started, { worker: 'echo-worker', started: true, was_running: false, problem: null });
    await after.line('dispatcher.registered');
    assert.equal((await operator.answerTo(id)).content, 'patience');
    assert.equal((await ygg(home, ['workers', 'start', 'echo-worker'])).stdout, 'echo-worker runs already\n');
    const { state, delivered, per_minute: rate } = await workerOf(bench, 'echo-worker');
    assert.deepEqual([state, delivered, rate], ['running', 1, 1]);
  },
);

test('what a worker has in hand when it is stopped comes to it again when it is started', { skip }, async () => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  const gate = home.path('gate');
  const script = `echo got it >&2; test -e ${gate} || exec sleep 1000; cat`;
  await home.addRun('slow-worker', ['--handler', 'slow'], ['/bin/sh', '-c', script]);
  await bench.startWith(['slow']);
  const id = await operator.send('slow', '"not lost"');
  const messages = async (): Promise<string> =>
    (await ygg(home, ['messages', 'list', '--state', 'dispatching'])).stdout;
  while ((await messages()) === '');
  assert.equal((await ygg(home, ['workers', 'stop', 'slow-worker'])).code, 0);
  await writeFile(gate, '');
  assert.equal((await ygg(home, ['workers', 'start', 'slow-worker'])).stdout, 'slow-worker is being started\n');
  assert.equal((await operator.answerTo(id)).content, 'not lost');
});

test(
  'a start gives another try to a worker that waits for one, and says what keeps one from it',
  { skip },
  async () => {
    await using bench = await makeBench();
    const { home } = bench;
    await home.addProgram('broken-worker', '#!/bin/sh\nexit 3\n');
    await home.writeWorkerFile('broken-worker', 'restart = "never"\n');
    await home.addProgram('loose-worker', '#!/bin/sh\nexit 3\n');
    const yggd = await bench.start(['--exclude-worker=loose-worker']);
    await yggd.line('worker.died');
    const again = yggd.next('worker.died');
    assert.equal((await ygg(home, ['workers', 'start', 'broken-worker'])).code, 0);
    await again;
    for (const name of ['no-worker', 'loose-worker', '../x', '\u001b[2J']) {
      for (const verb of ['start', 'stop', 'logs']) {
        const { code, stdout, stderr } = await ygg(home, ['workers', verb, name]);
        assert.deepEqual([code, stdout], [1, ''], `${verb} ${name}`);
        assert.ok(!hasControl(stderr.trimEnd()));
        assert.match(stderr, /^ygg: there is no worker ".*"\n$/);
      }
    }
    // Held, and then taken away.
    assert.equal((await ygg(home, ['workers', 'stop', 'broken-worker'])).code, 0);
    await rm(home.path('workers', 'broken-worker'));
    while (((await yggJson(home, ['workers'])) as readonly unknown[]).length > 0);
    const gone = await ygg(home, ['workers', 'start', 'broken-worker']);
    assert.deepEqual(
      [gone.code, gone.stderr],
      [1, 'ygg: broken-worker is not held any more, but there is no such executable\n'],
    );
  },
);

test('what a worker wrote is shown in text, as JSON and on a terminal, and cannot steer it', { skip }, async () => {
  await using bench = await makeBench();
  const { home } = bench;
  const script = 'printf "one\\n\\033[2Jtwo\\n\\302\\2332J\\n"; echo "three" >&2; exec sleep 1000';
  await home.addProgram('loud-worker', `#!/bin/sh\n${script}\n`);
  const yggd = await bench.start();
  await yggd.line('worker.output', ({ text }) => text === 'three');
  const { pid } = await workerOf(bench, 'loud-worker');
  const TIME = '\\d{4}-\\d\\d-\\d\\dT[\\d:.]+Z';
  const piped = await ygg(home, ['workers', 'logs', 'loud-worker']);
  assert.equal(piped.code, 0);
  assert.match(piped.stdout, new RegExp(`^${TIME}\tstdout\tone\n${TIME}\tstdout\t\\\\u001b\\[2Jtwo\n`));
  assert.match(piped.stdout, new RegExp(`^${TIME}\tstderr\tthree$`, 'm'));
  const lines = (await ygg(home, ['workers', 'logs', 'loud-worker', '--json'])).stdout.trimEnd().split('\n');
  assert.ok(!lines.some(hasControl));
  const entries = lines.map(
    (line) => JSON.parse(line) as { text: string; stream: string; pid: number; worker: string },
  );
  const texts = entries.filter(({ stream }) => stream === 'stdout').map(({ text }) => text);
  assert.deepEqual(texts, ['one', '\u001b[2Jtwo', '\u009b2J']);
  assert.ok(entries.every((entry) => entry.pid === pid && entry.worker === 'loud-worker'));
  const shown = await yggOnTerminal(home, ['workers', 'logs', 'loud-worker']);
  assert.match(shown.stdout, new RegExp(`${TIME}  stdout  \\\\u001b\\[2Jtwo\r\n`));
  assert.ok(!shown.stdout.split('\r\n').some(hasControl));
  assert.equal(shown.stdout.split('\r\n').filter((line) => line === '').length, 1);
  const last = await ygg(home, ['workers', 'logs', 'loud-worker', '-n', '1']);
  assert.equal(last.stdout.split('\n').length, 2);
  assert.match((await ygg(home, ['workers', 'logs', 'loud-worker', '-n', 'x'])).stderr, /a whole number of at least 1/);
});

test(
  'one who follows a worker sees it over its restarts, until Ctrl-C; or until the worker or the agent is gone',
  { skip },
  async () => {
    await using bench = await makeBench();
    const { home } = bench;
    await home.addProgram('loud-worker', '#!/bin/sh\necho "I am $$"\nexec sleep 1000\n');
    const yggd = await bench.start();
    // One that was just put there is left alone for a moment first.
    await yggd.line('worker.started');
    const words = ['workers', 'logs', 'loud-worker', '-f'];
    await using piped = FollowingYgg.start(home, words);
    await using terminal = FollowingYgg.onTerminal(home, words);
    await using patient = FollowingYgg.start(home, words);
    const first = String((await workerOf(bench, 'loud-worker')).pid);
    for (const each of [piped, terminal, patient]) await each.line(new RegExp(`I am ${first}`));
    await ygg(home, ['workers', 'restart', 'loud-worker']);
    await yggd.line('worker.started', ({ pid }) => String(pid) !== first);
    const second = String((await workerOf(bench, 'loud-worker')).pid);
    for (const each of [piped, terminal, patient]) await each.line(new RegExp(`I am ${second}`));
    assert.equal(await piped.interrupt(), 'SIGINT');
    assert.equal(await terminal.interrupt(), 130);
    assert.deepEqual(piped.complaints, []);
    assert.ok(!/Error|at /.test(terminal.lines.join('\n')), terminal.lines.join('\n'));

    await rm(home.path('workers', 'loud-worker'));
    assert.equal(await patient.ended(), 0);
    await home.addProgram('loud-worker', '#!/bin/sh\necho "I am $$"\nexec sleep 1000\n');
    await yggd.next('worker.output');
    await using last = FollowingYgg.start(home, words);
    await last.line(/I am/);
    await yggd.stop();
    assert.equal(await last.ended(), 3);
    assert.match(await last.complaint(/./), /^ygg: the agent went away while it was asked$/);
    assert.equal(last.complaints.length, 1);
  },
);

test('one who reads slowly holds up nobody and is told how many lines are missing', { skip }, async () => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  const gate = home.path('gate');
  const many = 60_000;
  const padding = 'x'.repeat(100);
  const script = `echo ready; while ! test -e ${gate}; do sleep 0.05; done; seq -f "line %.0f ${padding}" ${many}; exec sleep 1000`;
  await home.addProgram('loud-worker', `#!/bin/sh\n${script}\n`);
  await home.addWorker('echo-worker');
  const yggd = await bench.startWith(['echo']);
  await yggd.line('worker.output', ({ text }) => text === 'ready');
  await using slow = FollowingYgg.start(home, ['workers', 'logs', 'loud-worker', '-f']);
  await slow.line(/ready/);
  slow.pause();
  await writeFile(gate, '');
  const isWritten = async (): Promise<boolean> =>
    (await ygg(home, ['workers', 'logs', 'loud-worker', '-n', '1'])).stdout.includes(`line ${many} `);
  while (!(await isWritten()));
  // The agent has time for others.
  const id = await operator.send('echo', '"still here"');
  assert.equal((await operator.answerTo(id)).content, 'still here');
  slow.resume();
  await slow.line(new RegExp(`line ${many} `));
  const missing = slow.complaints.map((line) => Number(/^ygg: (\d+) lines are missing here/.exec(line)?.[1]));
  assert.ok(missing.length > 0);
  // What was not shown was told of, to the line.
  const seen = slow.lines.filter((line) => line.includes('\tline ')).length;
  assert.equal(seen + missing.reduce((sum, count) => sum + count, 0), many);
  const head = await yggInto('head -n 1', home, ['workers', 'logs', 'loud-worker']);
  assert.deepEqual([head.code, head.stderr], [0, '']);
});

test('a handler is released, another worker gets it, and what was in hand is answered', { skip }, async () => {
  await using bench = await makeBench();
  const { home, operator } = bench;
  const gate = home.path('gate');
  const script = `while ! test -e ${gate}; do sleep 0.05; done; echo '"from the first"'`;
  await home.addRun('first-worker', ['--handler', 'shared'], ['/bin/sh', '-c', script]);
  const yggd = await bench.startWith(['shared']);
  await home.addRun('second-worker', ['--handler', 'shared'], ['/bin/echo', '"from the second"']);
  await yggd.line('dispatcher.registration_refused', ({ worker }) => worker === 'second-worker');
  const inHand = await operator.send('shared', '1');
  const messages = async (): Promise<string> =>
    (await ygg(home, ['messages', 'list', '--state', 'dispatching'])).stdout;
  while ((await messages()) === '');

  const released = await yggJson(home, ['workers', 'release', 'shared']);
  assert.deepEqual(released, { handler: 'shared', worker: 'first-worker', was_registered: true });
  const free = await ygg(home, ['workers', 'release', 'shared']);
  assert.deepEqual([free.code, free.stderr], [1, 'ygg: no worker has registered the handler "shared": it is free\n']);
  await ygg(home, ['workers', 'start', 'second-worker']);
  await yggd.line('dispatcher.registered', ({ worker }) => worker === 'second-worker');
  const next = await operator.send('shared', '2');
  assert.equal((await operator.answerTo(next)).content, 'from the second');
  await writeFile(gate, '');
  assert.equal((await operator.answerTo(inHand)).content, 'from the first');
  assert.deepEqual((await workerOf(bench, 'second-worker')).directives, ['shared']);

  await home.addRun('bound-worker', ['--handler', 'bound'], ['/bin/true']);
  await home.writeWorkerFile('second-worker', 'handlers = ["shared"]\n');
  const again = yggd.next('dispatcher.registered', ({ worker }) => worker === 'second-worker');
  await ygg(home, ['reload']);
  await again;
  const bound = await ygg(home, ['workers', 'release', 'shared']);
  assert.equal(bound.code, 1);
  assert.match(bound.stderr, /the file of second-worker binds the handler shared: take it out of "handlers" there/);
});
