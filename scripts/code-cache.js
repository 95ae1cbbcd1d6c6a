/**
 * Makes V8's code cache for the programs in a dist/ (src/cli/program-loader.ts reads it): runs each once in a process
 * of its own, so that what a start compiles has been compiled, and writes it beside the chunks. The daemon is run
 * against a broker of this script's own and until it is on line, with a worker where one was built.
 *
 * node scripts/code-cache.js [DIST [TO]]: caches for the chunks of DIST, written to TO (default: both dist/ of this
 * package). For the Node that runs it and no other; run it again after an upgrade of Node, or an installation by npm.
 */
import { Buffer } from 'node:buffer';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { realpathSync } from 'node:fs';
import { chmod, copyFile, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import process from 'node:process';
import { clearTimeout, setTimeout } from 'node:timers';
import { fileURLToPath, pathToFileURL } from 'node:url';

const PATIENCE_MS = 30_000;
/** Of its process: the program to run, and where it puts what it finds. */
const RUN = '--run';

const script = fileURLToPath(import.meta.url);
if (realpathSync(process.argv[1]) === script) {
  if (process.argv[2] === RUN) await record(...process.argv.slice(3));
  else await makeCodeCache(...process.argv.slice(2).map((path) => resolve(path)));
}

/** Rejects when a program cannot be run; what was there before stays then. */
export async function makeCodeCache(dist = join(script, '../../dist'), to = dist, node = process.execPath) {
  const base = await mkdtemp(join(tmpdir(), 'yggd-cache-'));
  const broker = createServer(answerMqtt);
  try {
    broker.listen(0, '127.0.0.1');
    await once(broker, 'listening');
    const out = join(base, 'made');
    // The daemon last: of a chunk that both load, what the daemon needs counts.
    await runOne(node, [dist, out, 'ygg', '--help'], base);
    await runOne(node, [dist, out, 'yggd', ...(await daemonFlags(base, dist, broker.address().port))], base);
  } finally {
    broker.close();
    await rm(base, { recursive: true, force: true });
  }

  async function runOne(program, words, home) {
    const child = spawn(program, [script, RUN, ...words], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { PATH: process.env.PATH, HOME: home },
      timeout: PATIENCE_MS,
    });
    let told = '';
    child.stderr.on('data', (chunk) => (told += chunk));
    const [code] = await once(child, 'close');
    if (code !== 0) throw new Error(`no code cache of ${words[2]}: ${told.trim() || `it ended with ${code}`}`);
    await place(words[1], join(to, 'chunks'));
  }
}

async function daemonFlags(base, dist, port) {
  const directory = async (name) => {
    await mkdir(join(base, name), { mode: 0o700 });
    return join(base, name);
  };
  const workers = await directory('workers');
  await copyFile(join(dist, 'workers/echo-worker'), join(workers, 'echo-worker')).catch(() => {
    // None was built: then what starts a worker is compiled when it is needed.
  });
  return [
    `--broker=mqtt://127.0.0.1:${port}`,
    '--client-id=code-cache',
    '--log-level=error',
    `--worker-dir=${workers}`,
    `--state-dir=${await directory('state')}`,
    `--runtime-dir=${await directory('run')}`,
    `--config-dir=${await directory('config')}`,
  ];
}

/** Enough of a broker: it takes what comes, and tells nobody. */
function answerMqtt(socket) {
  let rest = Buffer.alloc(0);
  let isV5 = false;
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    for (let packet = nextPacket(); packet !== undefined; packet = nextPacket()) answer(packet);
  });

  function nextPacket() {
    let length = 0;
    for (let at = 1; at < rest.length; at++) {
      length += (rest[at] & 127) * 128 ** (at - 1);
      if (rest[at] > 127) continue;
      if (rest.length < at + 1 + length) return undefined;
      const packet = { type: rest[0] >> 4, flags: rest[0] & 15, body: rest.subarray(at + 1, at + 1 + length) };
      rest = rest.subarray(at + 1 + length);
      return packet;
    }
    return undefined;
  }

  function answer({ type, flags, body }) {
    if (type === 1) {
      isV5 = body[6] === 5;
      socket.write(Buffer.from(isV5 ? [0x20, 3, 0, 0, 0] : [0x20, 2, 0, 0]));
    } else if (type === 8) {
      // One granted QoS for each filter of the SUBSCRIBE.
      const grants = [];
      for (let at = isV5 ? 3 + body[2] : 2; at < body.length; at += body.readUInt16BE(at) + 3) grants.push(1);
      const head = isV5 ? [body[0], body[1], 0] : [body[0], body[1]];
      socket.write(Buffer.from([0x90, head.length + grants.length, ...head, ...grants]));
    } else if (type === 3 && (flags & 6) !== 0) {
      const at = 2 + body.readUInt16BE(0);
      socket.write(Buffer.from([0x40, 2, body[at], body[at + 1]]));
      // A status: it is on line. What comes after that, such as a worker, is given a moment.
    } else if (type === 12) socket.write(Buffer.from([0xd0, 0]));
    else if (type === 14) socket.end();
  }
}

/** In the process of one program: runs it, ends it after a while, and writes what V8 compiled. */
async function record(dist, out, name, ...flags) {
  const { ProgramLoader } = await import(pathToFileURL(join(dist, 'program-loader.js')).href);
  const loader = new ProgramLoader(pathToFileURL(join(dist, `${name}.js`)).href, true);
  await mkdir(out, { recursive: true });
  process.argv = [process.argv[0], join(dist, `${name}.js`), ...flags];
  const end = setTimeout(() => process.kill(process.pid, 'SIGTERM'), 1500);
  end.unref();
  loader.run(name);
  await once(process, 'beforeExit');
  clearTimeout(end);
  for (const [file, content] of loader.caches()) await writeFile(join(out, basename(file)), content);
  // For whoever wants to know why a start is slow: the Node that these are for.
  await writeFile(join(out, 'node-version.cache'), `${process.version}\n`);
}

/** Each by a rename: a program that starts meanwhile finds an old one or a new one. */
async function place(from, to) {
  await mkdir(to, { recursive: true });
  for (const name of await readdir(from)) {
    const next = join(to, `.${name}.${process.pid}`);
    await copyFile(join(from, name), next);
    await chmod(next, 0o644);
    await rename(next, join(to, name));
  }
}
