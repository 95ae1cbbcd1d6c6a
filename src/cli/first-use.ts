/**
 * `npm start`: the whole thing on one machine in one go, to see it work. An embedded broker, an agent with the shipped
 * workers in a directory of its own, one message through all of it; then it prints what to type next and stays up.
 */
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { chmod, copyFile, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Agent } from '../agent.js';
import { EmbeddedBroker, type BrokerAddress } from '../broker/index.js';
import { checkCredentials, loadSettings, Secret, type LoadResult } from '../config/index.js';
import { Connection } from '../connection/index.js';
import { errorText } from '../errors.js';
import { createLog, type ProgramLog } from '../log/index.js';
import { decodeData, encodeData, metadataFrom, parseClientId, type ClientId } from '../message/index.js';
import { VERSION } from '../version.js';
import { exampleCommands } from './examples.js';

const PACKAGE = fileURLToPath(new URL('..', import.meta.url));
const CONTENT = '{"hello":"world","big":12345678901234567890}';
/** How long the first answer may take before a person is told that something is wrong. */
const PATIENCE_MS = 60_000;

void start();

async function start(): Promise<void> {
  try {
    await main();
  } catch (error) {
    process.stderr.write(`first use: ${errorText(error)}\n`);
    process.exitCode = 1;
  }
}

async function main(): Promise<void> {
  const ended = new Promise<undefined>((resolve) => {
    // A terminal that is closed sends a SIGHUP: workers must not stay behind it either.
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => resolve(undefined));
  });
  // Nothing else keeps the event loop alive: the agent's own timers let it end.
  const alive = setInterval(() => undefined, 2 ** 30);
  const log = createLog({ level: 'warn', format: 'text' });
  const base = await mkdtemp(join(tmpdir(), 'yggdrasil-'));
  const broker = new EmbeddedBroker({ stateDir: base, port: 0, log });
  let agent: Agent | undefined;
  try {
    const workers = await copyWorkers(base);
    const address = await broker.start(AbortSignal.timeout(PATIENCE_MS));
    const clientId = parseClientId('first-use');
    if (clientId === undefined) throw new Error('the client id is wrong');
    agent = await startAgent(base, address, clientId, log);
    say(`A broker listens on ${address.url}. An agent runs the workers in ${workers}.`);
    say(`Sending ${CONTENT} to the directive "echo" …`);
    const answer = await Promise.race([echo(address, clientId, log), ended]);
    if (answer === undefined) return;
    say(`The answer: ${answer}`);
    const ygg = join(PACKAGE, 'dist/ygg.js');
    say(exampleCommands({ address, topicPrefix: 'yggdrasil', clientId, workerDir: workers, ygg }));
    await ended;
  } finally {
    await agent?.stop(1_000);
    await broker.stop();
    await rm(base, { recursive: true, force: true });
    clearInterval(alive);
  }
}

/** The shipped workers that can run here, in a directory of their own. */
async function copyWorkers(base: string): Promise<string> {
  const directory = join(base, 'workers');
  await mkdir(join(base, 'config'), { recursive: true });
  await mkdir(directory);
  const commands = join(PACKAGE, 'workers/command/commands.example.toml');
  await copyFile(commands, join(base, 'config/commands.toml'));
  const names = ['echo-worker', 'command-worker'];
  if (await hasPythonGrpc()) names.push('python-echo-worker');
  else say('The Python worker is left out: its package (Debian: python3-grpcio) is not installed.');
  for (const name of names) {
    await copyFile(join(PACKAGE, 'dist/workers', name), join(directory, name));
    await chmod(join(directory, name), 0o755);
  }
  return directory;
}

function hasPythonGrpc(): Promise<boolean> {
  return new Promise((resolve) => {
    execFile('/usr/bin/python3', ['-c', 'import grpc'], (error) => resolve(error === null));
  });
}

async function startAgent(base: string, address: BrokerAddress, clientId: ClientId, log: ProgramLog): Promise<Agent> {
  const { settings, surroundings } = orThrow(
    await loadSettings({
      argv: [
        `--broker=${address.url}`,
        `--username=${address.username}`,
        `--config-dir=${join(base, 'config')}`,
        `--state-dir=${join(base, 'state')}`,
        `--runtime-dir=${join(base, 'run')}`,
        `--worker-dir=${join(base, 'workers')}`,
      ],
      // Only where programs are: what else is set on this machine has no part in a first try.
      env: { PATH: process.env['PATH'] },
    }),
  );
  const checked = await checkCredentials(settings);
  if (checked.kind === 'invalid') throw new Error('the credentials are wrong');
  const agent = new Agent({
    settings,
    credentials: { ...checked.credentials, password: new Secret(address.password) },
    clientId,
    version: VERSION,
    workerEnvironment: { path: surroundings.path, proxy: {} },
    agentUser: { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 },
    log,
  });
  // A broker keeps messages only for a session it knows: the first one has to be there before the first message.
  const up = agent.connection.up.next(AbortSignal.timeout(PATIENCE_MS));
  await agent.start();
  await up;
  return agent;
}

function orThrow(loaded: LoadResult): Extract<LoadResult, { kind: 'ok' }> {
  if (loaded.kind === 'ok') return loaded;
  const problems = loaded.kind === 'invalid' ? loaded.problems.map(({ text }) => text) : [];
  throw new Error(`the settings are wrong: ${problems.join('; ')}`);
}

/** Sends one message as an operator would, from outside, and waits for its answer. */
async function echo(address: BrokerAddress, clientId: ClientId, log: ProgramLog): Promise<string> {
  const scope = new AbortController();
  const operator = new Connection({
    brokers: [address.url],
    clientId: `operator-${process.pid}`,
    credentials: () => ({ username: address.username, password: address.password }),
    subscriptions: [`yggdrasil/${clientId}/data/out`],
    sessionExpiry: 0,
    log,
  });
  const messageId = randomUUID();
  try {
    const answer = new Promise<string>((resolve) => {
      operator.message.connect((delivery) => {
        delivery.ack();
        const decoded = decodeData(delivery.payload);
        if (decoded.kind === 'data' && decoded.envelope.responseTo === messageId) {
          resolve(decoded.envelope.content.toString('utf8'));
        }
      }, scope.signal);
    });
    const up = operator.up.next(AbortSignal.timeout(PATIENCE_MS));
    await operator.start();
    await up;
    await operator.publish(
      `yggdrasil/${clientId}/data/in`,
      encodeData({
        messageId,
        responseTo: '',
        sent: new Date().toISOString(),
        directive: 'echo',
        metadata: metadataFrom([]),
        content: Buffer.from(CONTENT),
      }),
    );
    return await Promise.race([answer, noAnswer()]);
  } finally {
    scope.abort();
    await operator.stop();
  }
}

function noAnswer(): Promise<never> {
  return new Promise((_, reject) => {
    setTimeout(
      () => reject(new Error(`no answer came within ${PATIENCE_MS / 1000} s; the log above says why`)),
      PATIENCE_MS,
    ).unref();
  });
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
