import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text as textOf } from 'node:stream/consumers';
import { test } from 'node:test';
import { textLine } from '../../../src/log/format.js';
import { createLog, resolveLogFormat, type LogFormat, type LogLevel } from '../../../src/log/index.js';
import { FakeClock } from '../../support/clock.js';

function logTo(format: LogFormat, level: LogLevel = 'info') {
  const lines: string[] = [];
  const destination = { write: (line: string) => void lines.push(line) };
  return { log: createLog({ level, format, destination, clock: new FakeClock() }), lines };
}

const TIME = '2026-01-01T00:00:00.000Z';

test('each format has time or priority, level, text, event and fields', () => {
  const write = (format: LogFormat): string => {
    const { log, lines } = logTo(format);
    log.child({ worker: 'echo' }).info('worker.started', 'the worker has started', { pid: 7, why: 'two words' });
    return lines.join('');
  };
  assert.equal(write('text'), `${TIME} INFO  the worker has started  worker=echo pid=7 why="two words"\n`);
  assert.equal(write('journal'), '<6>the worker has started  event=worker.started worker=echo pid=7 why="two words"\n');
  assert.deepEqual(JSON.parse(write('json')), {
    time: TIME,
    level: 'info',
    event: 'worker.started',
    text: 'the worker has started',
    worker: 'echo',
    pid: 7,
    why: 'two words',
  });
});

test('the journal gets the priority of the level', () => {
  const { log, lines } = logTo('journal', 'trace');
  for (const level of ['error', 'warn', 'info', 'debug', 'trace'] as const) log[level]('e', 'x');
  assert.deepEqual(
    lines.map((line) => line.slice(0, 3)),
    ['<3>', '<4>', '<6>', '<7>', '<7>'],
  );
});

test('the level changes while it runs, for children made before too', () => {
  const { log, lines } = logTo('text', 'warn');
  const child = log.child({ worker: 'echo' });
  child.info('e', 'one');
  assert.equal(child.isEnabled('info'), false);
  log.setLevel('debug');
  child.debug('e', 'two');
  child.trace('e', 'three');
  assert.equal(log.level, 'debug');
  assert.equal(lines.length, 1);
  assert.match(lines[0] ?? '', /two/);
});

test('secrets are redacted by name, wherever they stand, and a path to one is not', () => {
  const { log, lines } = logTo('json');
  log.child({ token: 's1' }).info('e', 'x', {
    password: 's2',
    proxyCredentials: 's3',
    nested: { deeper: [{ 'api-key': 's4' }], Authorization: 's5' },
    passwordFile: '/etc/password',
    'password-file': '/etc/password',
  });
  assert.doesNotMatch(lines.join(), /s[1-5]/);
  assert.equal(lines.join().split('/etc/password').length, 3);
});

test('user and password in an address are taken out of texts and fields', () => {
  const { log, lines } = logTo('json');
  log.info('e', 'connecting to mqtts://ann:s1@h:8883/x and http://h/a@b', {
    url: new URL('https://ann:s2@h/y'),
    error: new Error('no route to ws://ann:s3@h', { cause: new Error('http://ann:s4@h') }),
    list: ['mqtt://ann@h'],
  });
  assert.doesNotMatch(lines.join(), /ann|s[1-4]/);
  assert.match(lines.join(), /mqtts:\/\/h:8883\/x and http:\/\/h\/a@b/);
});

test('what a worker writes cannot reach into the terminal or make a line of its own', () => {
  const evil = 'a\u001b[2Jb\r\nFAKE\u009b31m\u007f\u2028\u202e';
  for (const format of ['text', 'journal', 'json'] as const) {
    const { log, lines } = logTo(format);
    log.info('e', evil, { output: evil, [evil]: 1, list: [evil] });
    assert.equal(lines.length, 1);
    // eslint-disable-next-line no-control-regex -- exactly these must not be there
    assert.doesNotMatch(lines[0]?.slice(0, -1) ?? '', /[\u0000-\u001f\u007f-\u009f\u2028\u202e]/, format);
  }
});

test('any value can be logged: errors, bytes, cycles, big integers, maps, nothing', () => {
  const cycle: Record<string, unknown> = { name: 'x' };
  cycle.self = cycle;
  const { log, lines } = logTo('json');
  log.info('e', 'x', {
    cycle,
    error: Object.assign(new Error('boo'), { code: 'EBOO' }),
    bytes: Buffer.from('abc'),
    big: 12345678901234567890n,
    map: new Map<unknown, unknown>([[1, new Set([2])]]),
    date: new Date(0),
    none: undefined,
    nil: null,
    fn: Symbol('s'),
    time: 'mine',
    text: 'mine',
  });
  const line = JSON.parse(lines[0] ?? '') as Record<string, unknown> & { error: Record<string, unknown> };
  assert.equal(line.error.message, 'boo');
  assert.equal(line.error.code, 'EBOO');
  assert.equal(line.bytes, '<3 bytes>');
  assert.equal(line.big, '12345678901234567890');
  assert.deepEqual(line.map, { 1: [2] });
  assert.equal(line.date, '1970-01-01T00:00:00.000Z');
  assert.equal(line.nil, null);
  assert.equal(line.fn, 'Symbol(s)');
  assert.deepEqual([line.time_, line.text_, line.text, line.time], ['mine', 'mine', 'x', TIME]);
});

test('auto is text on a terminal, journal on the journal’s own stream, else JSON', () => {
  assert.equal(resolveLogFormat({ isTerminal: true, id: '8:1' }, '8:1'), 'text');
  assert.equal(resolveLogFormat({ isTerminal: false, id: '8:1' }, '8:1'), 'journal');
  assert.equal(resolveLogFormat({ isTerminal: false, id: '8:2' }, '8:1'), 'json');
  assert.equal(resolveLogFormat({ isTerminal: false, id: undefined }, undefined), 'json');
});

test('colours mark the level and nothing else', () => {
  const line = { time: TIME, level: 'error', event: 'e', text: 'x', fields: {} } as const;
  assert.equal(textLine(line, true), `${TIME} \u001b[31mERROR\u001b[0m x`);
  assert.equal(textLine(line, false), `${TIME} ERROR x`);
});

test('the last line before an exit is written, without colours where there is no terminal', async () => {
  const program = `
    import { createLog } from './src/log/index.ts';
    const log = createLog({ level: 'info', format: 'text' });
    for (let i = 0; i < 500; i++) log.info('e', 'line ' + i, { pad: 'x'.repeat(200) });
    const auto = createLog({ level: 'info', format: 'auto' });
    auto.error('last', 'the last words');
    log.flush();
    auto.flush();
    process.exit(3);`;
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], {
    cwd: new URL('../../..', import.meta.url),
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const [output] = await Promise.all([textOf(child.stderr), once(child, 'exit')]);
  assert.equal(child.exitCode, 3);
  const lines = output
    .trimEnd()
    .split('\n')
    .filter((line) => !line.includes('npm warn'));
  assert.equal(lines.length, 501);
  assert.match(lines[499] ?? '', /INFO {2}line 499 {2}pad=x/);
  assert.equal((JSON.parse(lines[500] ?? '') as { event: string }).event, 'last');
});
