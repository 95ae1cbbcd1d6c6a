/** V8's code cache of the programs: taken when it is sound, and left aside, with the same result, whenever it is not. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { cacheFileOf, ProgramLoader } from '../../src/cli/program-loader.js';
import { tempDir } from '../support/temp.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const run = promisify(execFile);

/** A chunk that puts a word into a file, by way of another chunk. */
const chunk = (body: string): string => `(function (exports, require, module, __filename, __dirname) {"use strict";
${body}
})
`;

interface Program extends AsyncDisposable {
  readonly chunk: string;
  readonly cache: string;
  /** Starts it: what it said, and what had to be compiled. */
  start(isRecording?: boolean): Promise<{ said: string; compiled: readonly string[]; loader: ProgramLoader }>;
}

async function makeProgram(): Promise<Program> {
  const dir = await tempDir();
  await mkdir(join(dir.path, 'chunks'));
  const file = join(dir.path, 'chunks/main.cjs');
  await writeFile(
    file,
    chunk(`
    const { word } = require('./word.cjs');
    require('node:fs').writeFileSync(require('node:path').join(__dirname, 'said'), word());`),
  );
  await writeFile(join(dir.path, 'chunks/word.cjs'), chunk(`exports.word = () => 'once';`));
  const start: Program['start'] = async (isRecording = false) => {
    const said = join(dir.path, 'chunks/said');
    await rm(said, { force: true });
    const loader = new ProgramLoader(pathToFileURL(join(dir.path, 'main.js')).href, isRecording);
    loader.run('main');
    return { said: await readFile(said, 'utf8'), compiled: loader.compiled, loader };
  };
  const { loader } = await start(true);
  for (const [path, content] of loader.caches()) await writeFile(path, content, { mode: 0o644 });
  return { chunk: file, cache: cacheFileOf(file), start, [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose]() };
}

test('a program starts from its code cache, each chunk of it', async () => {
  await using program = await makeProgram();
  assert.ok(existsSync(program.cache));
  const { said, compiled } = await program.start();
  assert.equal(said, 'once');
  assert.deepEqual(compiled, []);
});

const damages: Readonly<Record<string, (program: Program) => Promise<void>>> = {
  'that is missing': (program) => rm(program.cache),
  'that is a directory': async (program) => {
    await rm(program.cache);
    await mkdir(program.cache);
  },
  'that is empty': (program) => writeFile(program.cache, ''),
  'that was cut short': async (program) => {
    const content = await readFile(program.cache);
    await writeFile(program.cache, content.subarray(0, content.length - 10));
  },
  'in which a bit has flipped': async (program) => {
    const content = await readFile(program.cache);
    content[content.length - 20] = (content[content.length - 20] ?? 0) ^ 1;
    await writeFile(program.cache, content);
  },
  'that others may write': (program) => chmod(program.cache, 0o664),
  'of another build, of the same length': async (program) => {
    // V8 itself would take it, and run the code of the build before.
    const source = await readFile(program.chunk, 'utf8');
    await writeFile(program.chunk, source.replace('word());', '"two!");').replace('"two!"', "'two!'"));
    assert.equal((await readFile(program.chunk, 'utf8')).length, source.length);
  },
};

for (const [what, damage] of Object.entries(damages)) {
  test(`a cache ${what} is left aside, and the program starts all the same`, async () => {
    await using program = await makeProgram();
    await damage(program);
    const { said, compiled } = await program.start();
    assert.equal(said, what.startsWith('of another build') ? 'two!' : 'once');
    assert.deepEqual(compiled, [program.chunk]);
  });
}

test('a cache made with other flags of V8, as by another Node, is left aside', async () => {
  await using program = await makeProgram();
  const script = `
    import { ProgramLoader } from ${JSON.stringify(pathToFileURL(join(ROOT, 'src/cli/program-loader.ts')).href)};
    const loader = new ProgramLoader(${JSON.stringify(pathToFileURL(join(program.chunk, '../../main.js')).href)});
    loader.run('main');
    process.stdout.write(String(loader.compiled.length));`;
  const flags = ['--no-lazy', '--import', 'tsx', '--input-type=module', '--eval', script];
  const { stdout } = await run(process.execPath, flags, { cwd: ROOT });
  assert.equal(stdout, '2');
});

const dist = join(ROOT, 'dist');
const madeFor = await readFile(join(dist, 'chunks/node-version.cache'), 'utf8').catch(() => 'none');
const skip = madeFor.trim() === process.version ? false : `the caches of dist are for another Node: ${madeFor.trim()}`;

test('what the build made starts from its cache: nothing of yggd is compiled', { skip }, async () => {
  const script = `
    import { ProgramLoader } from ${JSON.stringify(pathToFileURL(join(dist, 'program-loader.js')).href)};
    const loader = new ProgramLoader(${JSON.stringify(pathToFileURL(join(dist, 'yggd.js')).href)});
    process.argv = [process.argv[0], 'yggd', '--version'];
    loader.run('yggd');
    process.on('exit', () => process.stdout.write(JSON.stringify(loader.compiled)));`;
  const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', script], { cwd: ROOT });
  assert.match(stdout, /^yggd \S+\n\[\]$/);
});

test('what yggd loads of Node is loaded before V8 has flags of ours, under which Node’s own cache is void', async () => {
  const launcher = await readFile(join(dist, 'yggd.js'), 'utf8');
  // The bundler breaks long lines, also within a word.
  const [, list] = /\.run\("yggd", ?(\[[^\]]*\])\)/.exec(launcher.replace(/\\\n/g, '')) ?? [];
  assert.ok(list !== undefined, 'the launcher names what it needs of Node');
  const script = `
    import { isBuiltin, syncBuiltinESMExports } from 'node:module';
    import v8 from 'node:v8';
    // What is there when the first flag is set.
    let there;
    const { setFlagsFromString } = v8;
    v8.setFlagsFromString = (flag) => {
      there ??= new Set(process.moduleLoadList);
      setFlagsFromString(flag);
    };
    syncBuiltinESMExports();
    const { ProgramLoader } = await import(${JSON.stringify(pathToFileURL(join(dist, 'program-loader.js')).href)});
    const loader = new ProgramLoader(${JSON.stringify(pathToFileURL(join(dist, 'yggd.js')).href)});
    process.argv = [process.argv[0], 'yggd', '--version'];
    loader.run('yggd', ${list});
    process.on('exit', () => {
      const late = process.moduleLoadList.filter((name) => !there.has(name)).map((name) => name.split(' ').pop());
      process.stdout.write(JSON.stringify([there.has('NativeModule http2'), late.filter(isBuiltin)]));
    });`;
  const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', script], { cwd: ROOT });
  assert.match(stdout, /^yggd \S+\n\[true,\[\]\]$/);
});
