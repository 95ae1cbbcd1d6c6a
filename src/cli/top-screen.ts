/** What `ygg top` shows, as lines. Pure: a status, the one before, and the last events, cut to the size of the terminal. */
import type { AgentStatus, Event } from '../admin/index.js';
import { printable } from '../message/index.js';
import { eventRow } from './events-command.js';
import { Output, size, span, type Cell } from './output.js';
import { linkText } from './status-command.js';
import { workerRows, WORKER_HEAD } from './workers-command.js';

/** A status, and when it was had, on a clock that only goes forward. */
export interface Sample {
  readonly status: AgentStatus;
  readonly at: number;
}

export interface Screen {
  readonly now: number;
  readonly sample: Sample;
  /** Rates count from here; undefined at first. */
  readonly before: Sample | undefined;
  /** The newest last. */
  readonly events: readonly Event[];
  readonly columns: number;
  readonly rows: number;
  readonly hasColour: boolean;
}

const RED = '\u001b[31m';
const BOLD = '\u001b[1m';
const PLAIN = '\u001b[0m';
const FOOT = 'q or Ctrl-C ends it';
/** Between the parts stand empty lines, and there are two heads and a foot. */
const EVENT_HEAD = ['TIME', 'WHAT', 'EVENT', 'OF', 'MESSAGE', 'DIRECTIVE', 'DETAIL'];

/** The lines of the screen, not more of them than there are rows. */
export function screenLines(screen: Screen): readonly string[] {
  const { sample, events, columns, rows, hasColour } = screen;
  const { status } = sample;
  const paint = (line: string, colour: string): string => (hasColour ? `${colour}${line}${PLAIN}` : line);
  const cut = (line: string): string => (line.length > columns ? `${line.slice(0, Math.max(0, columns - 1))}…` : line);
  const isUp = status.link?.state === 'up';
  const head = lines((output) => output.fields(headFields(screen))).map(cut);
  const [workerHead = '', ...workers] = lines((output) => output.table(topHead(), topRows(screen))).map(cut);
  const isFine = (index: number): boolean => ['running', 'starting'].includes(status.workers[index]?.state ?? '');
  const top = [
    ...head.map((line) => (line.startsWith('broker') && !isUp ? paint(line, RED) : line)),
    '',
    paint(workerHead, BOLD),
    ...workers.map((line, index) => (isFine(index) ? line : paint(line, RED))),
  ];
  // The foot, and a line above the events.
  const room = rows - top.length - 3;
  if (room < 1) return [...top.slice(0, Math.max(0, rows - 1)), FOOT];
  const shown = events.slice(-room).map(shortRow);
  const [eventHead = '', ...told] = lines((output) => output.table(EVENT_HEAD, shown)).map(cut);
  return [...top, '', paint(eventHead, BOLD), ...told, ...Array<string>(room - told.length).fill(''), FOOT];
}

function headFields({ sample, before, now }: Screen): readonly (readonly [string, Cell])[] {
  const { version, clientId, pid, startedAt, link, queues } = sample.status;
  const rate = (count: (of: NonNullable<AgentStatus['queues']>) => bigint): string =>
    rateText(queues && count(queues), before?.status.queues && count(before.status.queues), sample, before);
  return [
    ['agent', `yggd ${version}, client id ${clientId}, pid ${pid}, up ${span(now - Number(startedAt))}`],
    ['broker', linkText(link)],
    ['messages', `${queues?.pending ?? 0n} on their way, ${queues?.dead ?? 0n} dead`],
    [
      'a second',
      `${rate((of) => of.accepted)} accepted, ${rate((of) => of.duplicates)} repeated, ${rate((of) => of.refused)} refused`,
    ],
    ['spool', `${size(queues?.spoolBytes ?? 0n)} of ${size(queues?.spoolLimit ?? 0n)}`],
  ];
}

function topHead(): readonly string[] {
  return ['WORKER', 'A SECOND', ...WORKER_HEAD.slice(1)];
}

/** As `ygg workers` shows them, and how many messages a second each has handled. */
function topRows({ sample, before, now }: Screen): readonly (readonly Cell[])[] {
  const { workers } = sample.status;
  return workerRows(workers, now).map(([name = '', ...rest], index) => {
    const delivered = workers[index]?.delivered;
    const earlier = before?.status.workers.find((worker) => worker.name === workers[index]?.name)?.delivered;
    return [name, rateText(delivered, earlier, sample, before), ...rest];
  });
}

function rateText(
  count: bigint | undefined,
  earlier: bigint | undefined,
  sample: Sample,
  before: Sample | undefined,
): string {
  if (count === undefined || earlier === undefined || before === undefined || sample.at <= before.at) return '-';
  const rate = (Number(count - earlier) * 1000) / (sample.at - before.at);
  // An agent that was started again counts anew.
  return rate < 0 ? '-' : rate < 10 ? rate.toFixed(1) : String(Math.round(rate));
}

/** Of the time the hour is enough: it was just now. */
function shortRow(event: Event): readonly Cell[] {
  const [at, ...rest] = eventRow(event);
  return [String(at).slice(11, 23), ...rest];
}

function lines(write: (output: Output) => void): readonly string[] {
  let text = '';
  write(new Output({ isTTY: true, write: (more) => (text += String(more)) }));
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => printable(line));
}
