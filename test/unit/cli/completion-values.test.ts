import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Argument, Command } from 'commander';
import { flatten, readTree, standardOf } from '../../../src/cli/command-tree.js';
import { agentOf } from '../../../src/cli/completion/live.js';
import { completionTable } from '../../../src/cli/completion/table.js';
import { argumentValues, flagValues } from '../../../src/cli/completion/values.js';

test('what a flag’s value may be follows from its name and its placeholder', () => {
  for (const [flag, placeholder, kind] of [
    ['--runtime-dir', 'path', 'directories'],
    ['--cert-file', 'path', 'files'],
    ['--key', 'path', 'files'],
    ['--activation-key', 'key', 'anything'],
    ['--directive', 'name', 'live'],
    ['--level', 'error|warn', 'words'],
    ['--all', '', 'anything'],
    ['--limit', 'n', 'anything'],
  ] as const)
    assert.equal(flagValues(flag, placeholder, undefined, ['ygg', 'x']).kind, kind, flag);
  assert.equal(flagValues('--handler', 'name', undefined, ['ygg', 'worker', 'run']).kind, 'anything');
});

test('what an argument may be follows from its name, and from the group of its command', () => {
  for (const [name, path, kind] of [
    ['name', ['ygg', 'workers', 'restart'], 'live'],
    ['name', ['ygg', 'else', 'do'], 'anything'],
    ['key', ['ygg', 'messages', 'show'], 'live'],
    ['key', ['ygg', 'config', 'explain'], 'words'],
    ['program', ['ygg', 'worker', 'run'], 'programs'],
    ['constructor', ['ygg', 'x'], 'anything'],
  ] as const)
    assert.equal(argumentValues(name, undefined, path).kind, kind, path.join(' '));
});

test('a group completes as its standard command does, and what is hidden is not offered', () => {
  const program = new Command('tool');
  const things = program.command('things').description('all: of them\nand more');
  things.command('list', { isDefault: true }).option('--state <state>', 'only these').argument('[file...]');
  things.command('secret', { hidden: true });
  program.command('shell').addArgument(new Argument('<shell>').choices(['a', 'b c']));
  assert.equal(standardOf(things), 'list', 'commander still has it under that name');
  const tree = readTree(program);
  assert.deepEqual(
    flatten(tree).map(({ path }) => path.join(' ')),
    ['tool', 'tool things', 'tool things list', 'tool things help', 'tool shell', 'tool help'],
  );
  const table = completionTable([tree]);
  const group = table.find(({ command }) => command === 'tool things');
  assert.ok(group);
  assert.ok(group.flags.some(({ word }) => word === '--state'));
  assert.deepEqual(group.args, [{ index: '*', wants: 'files' }]);
  assert.equal(table[0]?.commands[0]?.doc, 'all: of them');
  // A word that a shell would cut in two is left out.
  assert.deepEqual(table.find(({ command }) => command === 'tool shell')?.args, [{ index: '0', wants: 'words a' }]);
});

test('the agent that the line names is asked, however the shell cuts the line', () => {
  assert.deepEqual(agentOf(['workers', '--runtime-dir', '/r', 'x']), { runtimeDir: '/r' });
  assert.deepEqual(agentOf(['--runtime-dir=/r=1', '--config', '/c']), { runtimeDir: '/r=1', config: '/c' });
  assert.deepEqual(agentOf(['--runtime-dir', '=', '/r']), { runtimeDir: '/r' });
  assert.deepEqual(agentOf(['workers', '--runtime-dir']), {});
});
