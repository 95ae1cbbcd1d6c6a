/** Completion in the three shells themselves: subcommands, flags, choices, files, and what only a running agent knows. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { makeBench, type Bench } from '../support/bench.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import { shellMissing, TypedShell } from '../support/shells.js';
import { tempDir } from '../support/temp.js';
import { ygg } from '../support/ygg.js';
import { ROOT } from '../support/yggd.js';

/** An agent with a worker and a message that waits; the scripts, and a PATH that has `ygg` and `yggd`. */
async function scene(bench: Bench): Promise<{ readonly dir: string; readonly path: string; readonly key: string }> {
  const { home, operator } = bench;
  await home.addWorker('echo-worker');
  await bench.startWith(['echo']);
  await operator.send('nobody', '1');
  const dir = home.path('shells');
  await mkdir(join(dir, 'bin'), { recursive: true });
  for (const name of ['ygg', 'yggd']) await symlink(join(ROOT, `dist/${name}.js`), join(dir, 'bin', name));
  for (const [shell, file] of [
    ['bash', 'ygg.bash'],
    ['zsh', '_ygg'],
    ['fish', 'ygg.fish'],
  ] as const) {
    const script = await ygg(undefined, ['completion', shell]);
    assert.deepEqual([script.code, script.stderr], [0, '']);
    await writeFile(join(dir, file), script.stdout);
  }
  await mkdir(join(dir, 'here/below'), { recursive: true });
  await writeFile(join(dir, 'here/content.json'), '1');
  let key = '';
  while (key === '') key = (await ygg(home, ['messages'])).stdout.split('\t', 1)[0] ?? '';
  return { dir, path: `${join(dir, 'bin')}:${dirname(process.execPath)}:/usr/bin:/bin`, key };
}

for (const shell of ['bash', 'zsh'] as const) {
  test(`${shell} completes ygg`, { skip: mosquittoMissing || shellMissing(shell) }, async () => {
    await using bench = await makeBench();
    const { dir, path, key } = await scene(bench);
    const setup = {
      bash: `cd ${dir}/here; source ${dir}/ygg.bash`,
      zsh: `cd ${dir}/here; fpath=(${dir} $fpath); autoload -Uz compinit; compinit -u -D`,
    }[shell];
    await using typed = await TypedShell.start(shell, dir, setup, path);
    const agent = `--runtime-dir ${bench.home.path('run')}`;
    for (const [line, becomes] of [
      ['ygg stat', 'ygg status '],
      ['ygg workers resta', 'ygg workers restart '],
      ['ygg status --wat', 'ygg status --watch '],
      // A group has the flags of what it does by itself.
      ['ygg messages --older', 'ygg messages --older-than '],
      ['ygg messages list --state dea', 'ygg messages list --state dead '],
      ['ygg messages list --state=dea', 'ygg messages list --state=dead '],
      ['ygg send somebody echo --file con', 'ygg send somebody echo --file content.json '],
      ['yggd --log-lev', 'yggd --log-level '],
      ['yggd --log-level tra', 'yggd --log-level trace '],
      ['yggd --state-dir bel', 'yggd --state-dir below/'],
      ['ygg completion fi', 'ygg completion fish '],
      // The words of the agent that runs.
      [`ygg workers restart ${agent} ec`, `ygg workers restart ${agent} echo-worker `],
      [`ygg messages list ${agent} --directive ec`, `ygg messages list ${agent} --directive echo `],
      [`ygg messages cancel ${agent} `, `ygg messages cancel ${agent} ${key} `],
      [`ygg messages cancel ${agent} 4711 `, `ygg messages cancel ${agent} 4711 ${key} `],
      // Nothing to offer, and nothing said: no agent, a word that is none.
      [`ygg workers restart --runtime-dir ${dir} ec`, `ygg workers restart --runtime-dir ${dir} ec`],
      ['ygg nonsense fo', 'ygg nonsense fo'],
    ] as const) {
      const { line: shown } = await typed.complete(line);
      assert.equal(shown, becomes, line);
    }
    const { heard } = await typed.complete('ygg ', 2);
    for (const name of ['status', 'workers', 'messages', 'completion'])
      assert.ok(heard.includes(name), `${name} in ${heard}`);
    assert.ok(!heard.includes('__complete'), 'what is hidden is not offered');
  });
}

test('zsh takes the script by source as well', { skip: shellMissing('zsh') }, async () => {
  await using dir = await tempDir();
  const script = await ygg(undefined, ['completion', 'zsh']);
  await writeFile(join(dir.path, 'ygg.zsh'), script.stdout);
  const setup = `autoload -Uz compinit; compinit -u -D; source ${dir.path}/ygg.zsh`;
  await using typed = await TypedShell.start('zsh', dir.path, setup, '/usr/bin:/bin');
  assert.equal((await typed.complete('ygg stat')).line, 'ygg status ');
});

test('fish completes ygg, with what each word is', { skip: mosquittoMissing || shellMissing('fish') }, async () => {
  await using bench = await makeBench();
  const { dir, path, key } = await scene(bench);
  const env = { PATH: path, HOME: dir, TERM: 'vt100', LC_ALL: 'C.UTF-8' };
  const complete = async (line: string): Promise<readonly string[]> => {
    const words = ['--no-config', '-c', `source ${dir}/ygg.fish; complete -C '${line}'`];
    const child = spawn('fish', words, { cwd: join(dir, 'here'), env, stdio: ['ignore', 'pipe', 'pipe'] });
    const [found, complaints] = await Promise.all([text(child.stdout), text(child.stderr)]);
    assert.equal(complaints, '', line);
    return found.split('\n').filter(Boolean);
  };
  const agent = `--runtime-dir ${bench.home.path('run')}`;
  for (const [line, ...found] of [
    ['ygg stat', 'status\twhat the agent does just now: its connection, its queues, its workers'],
    ['ygg workers restar', 'restart\tend a worker and start it again; what it has in hand comes to its end first'],
    ['ygg messages --older', '--older-than\tthat came longer ago than 90s, 5m, 2h, 3d'],
    ['ygg messages list --state dea', 'dead'],
    ['ygg messages list --state=dea', '--state=dead'],
    ['ygg send somebody echo --file con', 'content.json'],
    ['yggd --log-level tra', 'trace'],
    ['yggd --state-dir bel', 'below/'],
    [`ygg workers restart ${agent} ec`, 'echo-worker\trunning'],
    [`ygg messages list ${agent} --directive ec`, 'echo\techo-worker'],
    [`ygg messages cancel ${agent} `, `${key}\taccepted, nobody`],
    [`ygg workers restart --runtime-dir ${dir} ec`],
    ['ygg nonsense fo'],
  ]) {
    assert.deepEqual(await complete(line ?? ''), found, line);
  }
});

test('what a TAB asks is silent where there is no agent, and takes no other word', async () => {
  await using dir = await tempDir();
  const nobody = await ygg(undefined, ['__complete', 'workers', '--', '--runtime-dir', dir.path]);
  assert.deepEqual([nobody.code, nobody.stdout, nobody.stderr], [0, '', '']);
  const wrong = await ygg(undefined, ['completion', 'csh']);
  assert.equal(wrong.code, 64);
  assert.match(wrong.stderr, /Allowed choices are bash, zsh, fish/);
});

test('an agent that does not answer keeps nobody waiting', async () => {
  await using dir = await tempDir();
  await mkdir(join(dir.path, 'admin'));
  // It takes the connection and says nothing.
  const server = spawn(process.execPath, [
    '-e',
    `require('net').createServer(() => {}).listen(${JSON.stringify(join(dir.path, 'admin/admin.sock'))}, () => console.log('up'))`,
  ]);
  try {
    await new Promise((resolve) => server.stdout.once('data', resolve));
    await chmod(join(dir.path, 'admin'), 0o755);
    const words = ['__complete', 'workers', '--', `--runtime-dir=${dir.path}`];
    const { code, stdout, stderr } = await ygg(undefined, words);
    assert.deepEqual([code, stdout, stderr], [0, '', '']);
  } finally {
    server.kill('SIGKILL');
  }
});

test('wrong use at every level: the nearest word, and 64', async () => {
  for (const [words, said] of [
    [['statsu'], /unknown command 'statsu'\n\(Did you mean status\?\)/],
    [['workers', 'restrat', 'x'], /unknown command 'restrat'\n\(Did you mean restart\?\)/],
    [['messages', 'shwo', '1'], /unknown command 'shwo'\n\(Did you mean show\?\)/],
    [['link', 'dwn'], /unknown command 'dwn'\n\(Did you mean down\?\)/],
    [['messages', 'list', '--stat', 'dead'], /unknown option '--stat'\n\(Did you mean --state\?\)/],
    [['workers', '--jsn'], /unknown option '--jsn'\n\(Did you mean --json\?\)/],
    [['workers', 'restart'], /missing required argument 'name'/],
    [['messages', 'show', 'x1'], /a key is a number/],
    [['link'], /Usage: ygg link/],
  ] as const) {
    const { code, stdout, stderr } = await ygg(undefined, words);
    assert.equal(code, 64, words.join(' '));
    assert.equal(stdout, '');
    assert.match(stderr, said);
  }
  const help = await ygg(undefined, ['workers', '--help']);
  assert.deepEqual([help.code, help.stderr], [0, '']);
});
