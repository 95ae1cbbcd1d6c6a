/** What the command worker allows: the only thing between a message and a process. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { type Command, parseCommands, type Selection, selectCommand } from '../../../workers/command/commands.js';

function commands(text: string): ReadonlyMap<string, Command> {
  const parsed = parseCommands(text);
  if (parsed.kind === 'invalid') throw new Error(parsed.problem);
  return parsed.commands;
}

function problem(text: string): string {
  const parsed = parseCommands(text);
  return parsed.kind === 'invalid' ? parsed.problem : 'no problem';
}

const TEXT = `
[commands.log]
run = ["/bin/log", "--lines={n}", "--", "{unit}", "{}", "{unit}!"]
[commands.log.arguments]
unit = { pattern = '[a-z$ ;{}n]+', max-length = 20 }
n = { choices = ["1", "10"], default = "10" }
`;
const select = (args: unknown): Selection => selectCommand(commands(TEXT), { command: 'log', arguments: args });

test('the shipped example is right', () => {
  const names = [...commands(readFileSync('workers/command/commands.example.toml', 'utf8')).keys()];
  assert.deepEqual(names, ['uptime', 'disk-usage', 'service-status']);
});

test('arguments fill their places, each within one element', () => {
  const selection = select({ unit: 'a b; $n', n: 1 });
  assert.ok(selection.kind === 'run');
  assert.equal(selection.file, '/bin/log');
  assert.deepEqual(selection.args, ['--lines=1', '--', 'a b; $n', '{}', 'a b; $n!']);
});

test('a value is never read again as a placeholder or a replacement pattern', () => {
  const selection = select({ unit: '{n}$' });
  assert.ok(selection.kind === 'run');
  assert.deepEqual(selection.args.slice(0, 3), ['--lines=10', '--', '{n}$']);
});

test('a value that its declaration does not allow is refused with the reason', () => {
  const reasons: [unknown, RegExp][] = [
    [{ unit: 'UPPER' }, /"unit" of "log" does not match/],
    [{ unit: 'ok\n' }, /does not match/],
    [{ unit: '-x' }, /begins with "-"/],
    [{ unit: 'a\0' }, /NUL/],
    [{ unit: 'a'.repeat(21) }, /longer than 20/],
    [{ unit: 'a', n: '2' }, /is none of 1, 10/],
    [{ unit: 'a', other: 'x' }, /has no argument "other"/],
    [{}, /needs the argument "unit"/],
    [null, /needs the argument "unit"/],
  ];
  for (const [given, reason] of reasons) {
    const selection = select(given);
    assert.ok(selection.kind === 'refused' && selection.code === 'bad-arguments');
    assert.match(selection.problem, reason);
  }
});

test('names of the object prototype are no commands and no arguments', () => {
  for (const name of ['__proto__', 'constructor', 'toString']) {
    const selection = selectCommand(commands(TEXT), { command: name });
    assert.ok(selection.kind === 'refused' && selection.code === 'unknown-command');
  }
  const given: unknown = JSON.parse('{"unit":"a","__proto__":"x","constructor":"y"}');
  assert.equal(select(given).kind, 'refused');
});

test('an unknown command is refused and the known ones are named', () => {
  const selection = selectCommand(commands(TEXT), { command: 'rm' });
  assert.ok(selection.kind === 'refused');
  assert.match(selection.problem, /no command "rm" here; known: log/);
});

test('content of another form is refused with the form', () => {
  for (const content of [
    null,
    'log',
    [],
    {},
    { command: 1 },
    { command: 'log', args: {} },
    { command: 'log', arguments: { unit: {} } },
  ]) {
    const selection = selectCommand(commands(TEXT), content);
    assert.ok(selection.kind === 'refused' && selection.code === 'malformed');
    assert.match(selection.problem, /the content must be \{"command": NAME/);
  }
});

test('a dash is allowed only where the declaration says so', () => {
  const text = '[commands.x]\nrun = ["/x", "{a}"]\narguments.a = { pattern = ".*", allow-dash = true }';
  assert.equal(selectCommand(commands(text), { command: 'x', arguments: { a: '-v' } }).kind, 'run');
});

test('each fault of a commands file is named', () => {
  const faults: [string, RegExp][] = [
    ['[commands.x]\nrun = ["/x"', /Invalid TOML|line/i],
    ['[commands.x]\nrun = []', /commands\.x\.run/],
    ['[commands.x]\nrun = ["x"]', /absolute path/],
    ['[commands.x]\nrun = ["/{a}"]\narguments.a = { pattern = "a" }', /cannot be chosen by an argument/],
    ['[commands.x]\nrun = ["/x", "{a}"]', /\{a\} is not among the arguments/],
    ['[commands.x]\nrun = ["/x"]\narguments.a = { pattern = "a" }', /"a" is not used/],
    ['[commands.x]\nrun = ["/x", "{a}"]\narguments.a = {}', /either `pattern` or `choices`/],
    ['[commands.x]\nrun = ["/x", "{a}"]\narguments.a = { pattern = "(" }', /not a regular expression/],
    ['[commands.x]\nrun = ["/x"]\nshell = true', /shell/],
    ['[commands.x]\nrun = ["/x", "\\u0000"]', /NUL/],
    ['[commands.x]\nrun = ["/x"]\ncwd = "tmp"', /absolute path/],
    ['', /commands/],
  ];
  for (const [text, reason] of faults) assert.match(problem(text), reason);
});
