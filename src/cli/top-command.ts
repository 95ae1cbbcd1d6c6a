/** `ygg top`: what the agent does, live, on the whole terminal. However it ends, the terminal is as it was before. */
import type { Command } from 'commander';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AdminClient, Event } from '../admin/index.js';
import { AgentError } from '../errors.js';
import { asksAgent, withAgent, type AdminFlags } from './admin-command.js';
import { screenLines, type Sample } from './top-screen.js';

const REFRESH_MS = 1_000;
const MOST_EVENTS = 200;
const ENTER = '\u001b[?1049h\u001b[?25l';
const LEAVE = '\u001b[?25h\u001b[?1049l';
const HOME = '\u001b[H';
const END_OF_LINE = '\u001b[K';
const REST_OF_SCREEN = '\u001b[J';
const CTRL_C = '\u0003';
/** 128 and the number of SIGTERM or SIGHUP, as a shell tells an end by a signal. */
const SIGNALS = { SIGINT: 0, SIGTERM: 143, SIGHUP: 129 } as const;

export function addTopCommand(program: Command): void {
  asksAgent(program.command('top'))
    .description('a live view of connection, queues, workers and what happens; q ends it')
    .action(async (flags: AdminFlags) => {
      if (flags.json === true || !process.stdout.isTTY || process.env['TERM'] === 'dumb')
        throw new AgentError(
          'terminal.needed',
          'top needs a terminal to draw on; `ygg status --watch` prints the same, with --json for programs',
        );
      await withAgent(flags, (client) => show(client));
    });
}

async function show(client: AdminClient): Promise<void> {
  const scope = new AbortController();
  const release = takeTerminal(scope);
  const events: Event[] = [];
  try {
    const drawing = draw(client, events, scope);
    await Promise.race([drawing, gather(client, events, scope)]);
    scope.abort();
    await drawing;
  } finally {
    scope.abort();
    release();
  }
}

/** The terminal is this program's until what it gives is called. Keys and signals end the scope. */
function takeTerminal(scope: AbortController): () => void {
  const { stdin, stdout } = process;
  const end = (): void => scope.abort();
  const onKey = (keys: Buffer): void => {
    const text = keys.toString('latin1');
    if (text.includes('q') || text.includes('Q') || text.includes(CTRL_C)) end();
  };
  const onSignal = (signal: keyof typeof SIGNALS): void => {
    process.exitCode = SIGNALS[signal];
    end();
  };
  const names = Object.keys(SIGNALS) as (keyof typeof SIGNALS)[];
  for (const name of names) process.on(name, onSignal);
  if (stdin.isTTY) {
    stdin.setRawMode(true);
    stdin.on('data', onKey);
  }
  stdout.write(ENTER);
  return () => {
    for (const name of names) process.off(name, onSignal);
    if (stdin.isTTY) {
      stdin.off('data', onKey);
      stdin.setRawMode(false);
      stdin.pause();
    }
    stdout.write(LEAVE);
  };
}

async function draw(client: AdminClient, events: readonly Event[], scope: AbortController): Promise<void> {
  const { signal } = scope;
  const { stdout } = process;
  let before: Sample | undefined;
  for (;;) {
    const sample: Sample = { status: await client.status(), at: performance.now() };
    const paint = (): void => {
      // A terminal that does not know its size says 0.
      const [columns, rows] = [stdout.columns || 80, stdout.rows || 24];
      const hasColour = stdout.hasColors() && (process.env['NO_COLOR'] ?? '') === '';
      const screen = { sample, before, events, columns, rows, hasColour, now: Date.now() };
      const lines = screenLines(screen).map((line) => `${line}${END_OF_LINE}`);
      stdout.write(`${HOME}${lines.join('\r\n')}${REST_OF_SCREEN}`);
    };
    if (signal.aborted) return;
    paint();
    stdout.on('resize', paint);
    await sleep(REFRESH_MS, undefined, { signal }).catch(() => undefined);
    stdout.off('resize', paint);
    before = sample;
  }
}

/** Keeps the newest events; over when the scope ends. */
async function gather(client: AdminClient, events: Event[], scope: AbortController): Promise<void> {
  for await (const batch of client.events(true, scope.signal)) {
    events.push(...batch.events);
    events.splice(0, Math.max(0, events.length - MOST_EVENTS));
  }
}
