/** An agent that runs nothing but a process manager, to be killed: `node process-fixture.ts WORKER_DIR STATE_DIR RUNTIME_DIR`. */
import { ProcessManager } from '../../src/process/index.js';
import { systemClock } from '../../src/time.js';
import { silentLog, type Log } from '../../src/log/log.js';
import { SETTINGS } from './process-harness.js';

const [workerDir = '', stateDir = '', runtimeDir = ''] = process.argv.slice(2);
const log: Log = {
  ...silentLog,
  child: () => log,
  info: (event, text) => {
    if (event === 'worker.output') process.stdout.write(`${text}\n`);
  },
};
const manager = new ProcessManager({
  workerDir,
  stateDir,
  runtimeDir,
  exclude: [],
  environment: { path: '/usr/bin:/bin', configDir: '/', logLevel: () => 'info', clientId: () => 'x', proxy: {} },
  agent: { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 },
  settings: () => Promise.resolve({ kind: 'ok', settings: SETTINGS }),
  prepare: ({ name }) => Promise.resolve({ address: `unix:${runtimeDir}/w/${name}/d.sock` }),
  processes: { put: () => undefined, remove: () => undefined },
  clock: systemClock,
  random: Math.random,
  log,
});
await manager.start(new AbortController().signal);
