/**
 * Builds the programs (yggd, ygg, first-use) into dist/: for each a launcher, dist/NAME.js, and what it loads as
 * CommonJS chunks, dist/chunks/*.cjs, which src/cli/program-loader.ts runs with V8's code cache; Node has none for ES
 * modules before 22. esbuild splits ES modules only, so each chunk is turned into CommonJS after that.
 *
 * Without blanks and comments, but with all names: the source stays in memory, and a stack trace must tell something.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createRequire, isBuiltin } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { build, transform } from 'esbuild';
import { native, withoutUnused } from './unused.js';

/** Lines of a chunk, for stack traces and editors. */
const LINE = 160;
const HEAD = '(function (exports, require, module, __filename, __dirname) {"use strict";\n';
const TAIL = '\n})';
/** A program looks for its package from dist/, where its launcher lies. */
const URL_OF_PROGRAM = 'require("node:url").pathToFileURL(require("node:path").dirname(__dirname) + "/")';

/**
 * lmdb's JavaScript goes into a chunk, where it has a code cache; its native part stays in node_modules, and is looked
 * for from where the package lies.
 */
const lmdbInside = {
  name: 'lmdb-inside',
  setup({ onResolve, onLoad }) {
    const file = createRequire(import.meta.url).resolve('lmdb');
    onResolve({ filter: /^lmdb$/ }, ({ kind }) =>
      kind === 'require-resolve' ? { external: true } : { path: 'lmdb', namespace: 'lmdb' },
    );
    // From CommonJS, an import() by esbuild has no names.
    onLoad({ filter: /./, namespace: 'lmdb' }, () => ({
      contents: `import lmdb from ${JSON.stringify(file)};\nexport const { open } = lmdb;`,
      resolveDir: dirname(file),
    }));
    onLoad({ filter: /[/]lmdb[/]dist[/]index\.cjs$/ }, async ({ path }) => ({
      contents: `const __filename = require.resolve('lmdb');\n${await readFile(path, 'utf8')}`,
      loader: 'js',
    }));
  },
};

/** `entries`: name → source. Returns the launchers’ files, which the caller makes executable. */
export async function buildPrograms({ common, dist, entries }) {
  const { outputFiles, metafile } = await build({
    ...common,
    metafile: true,
    plugins: [lmdbInside, ...withoutUnused.plugins],
    alias: { ...common.alias, ...withoutUnused.alias },
    format: 'esm',
    splitting: true,
    write: false,
    sourcemap: 'inline',
    keepNames: false,
    minifyWhitespace: true,
    minifySyntax: true,
    lineLimit: LINE,
    outdir: join(dist, 'chunks'),
    chunkNames: '[name]-[hash]',
    entryPoints: entries,
    external: native.filter((name) => name !== 'lmdb'),
  });
  await mkdir(join(dist, 'chunks'), { recursive: true });
  await Promise.all(outputFiles.map(writeChunk));
  const launchers = Object.entries(entries).map(([name, source]) =>
    writeLauncher(common, dist, name, builtinsOf(metafile, source)),
  );
  await buildLoader(common, dist);
  return Promise.all(launchers);
}

async function writeChunk({ path, text }) {
  const file = path.replace(/\.js$/u, '.cjs');
  const { code, map } = await transform(text.replace(/(["'])(\.\/[\w.-]+)\.js\1/gu, '$1$2.cjs$1'), {
    loader: 'js',
    format: 'cjs',
    platform: 'node',
    target: 'node20',
    sourcefile: path,
    sourcemap: 'external',
    minifyWhitespace: true,
    lineLimit: LINE,
    legalComments: 'none',
    // A script knows no import(): what is loaded late is required late.
    supported: { 'dynamic-import': false },
    define: { 'import.meta.url': 'URL_OF_PROGRAM' },
  });
  const body = code.replaceAll('URL_OF_PROGRAM', URL_OF_PROGRAM);
  // eslint-disable-next-line no-control-regex -- the loader takes it for one byte a letter
  if (/[^\x00-\x7f]/u.test(body)) throw new Error(`${file} holds more than ASCII`);
  // Behind the function: what is run of a chunk counts as covered where it was written.
  await writeFile(file, `${HEAD}${body}${TAIL}\n//# sourceMappingURL=${basename(file)}.map\n`);
  await writeFile(`${file}.map`, JSON.stringify({ ...JSON.parse(map), mappings: `;${JSON.parse(map).mappings}` }));
}

/**
 * The modules of Node that a program loads when it starts: those of its chunk and of all that this one is made of. What
 * is imported late comes late.
 */
function builtinsOf({ outputs }, source) {
  const builtins = new Set();
  const seen = new Set();
  const visit = (file) => {
    if (seen.has(file)) return;
    seen.add(file);
    for (const { path, kind, external } of outputs[file].imports) {
      if (kind === 'dynamic-import') continue;
      if (!external) visit(path);
      else if (isBuiltin(path)) builtins.add(path.replace(/^node:/u, ''));
    }
  };
  visit(Object.keys(outputs).find((file) => outputs[file].entryPoint === source));
  return [...builtins].sort();
}

/** What is started: as little as can be, since Node compiles it each time. */
async function writeLauncher(common, dist, name, builtins) {
  const file = join(dist, `${name}.js`);
  const contents = `
    import { ProgramLoader } from './src/cli/program-loader.ts';
    new ProgramLoader(import.meta.url).run(${JSON.stringify(name)}, ${JSON.stringify(builtins)});`;
  await build({ ...common, ...small, outfile: file, stdin: { contents, resolveDir: common.absWorkingDir } });
  return file;
}

/** The loader by itself, for scripts/code-cache.js. */
async function buildLoader(common, dist) {
  const outfile = join(dist, 'program-loader.js');
  await build({ ...common, ...small, outfile, entryPoints: ['src/cli/program-loader.ts'] });
  return dirname(outfile);
}

const small = { format: 'esm', sourcemap: false, keepNames: false, minifyWhitespace: true, lineLimit: LINE };
