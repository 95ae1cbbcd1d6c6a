/**
 * Every metric, declared once: name, type, unit, labels and meaning. What is measured, what `/metrics` says and
 * docs/metrics.md all follow from this table. Names follow Prometheus' conventions: base units, `_total` for what only
 * grows. No label holds what a sender chose, but for directives, and those only once a worker here has registered them.
 */

export type MetricType = 'counter' | 'gauge' | 'histogram' | 'summary';

/** What its values are; where it has one, the name ends in it (before `_total`). */
export type Unit = 'seconds' | 'bytes';

export interface Declaration<T extends MetricType = MetricType> {
  readonly name: string;
  readonly type: T;
  readonly unit: Unit | undefined;
  readonly labels: readonly string[];
  /** One sentence or two, for the documentation and for `# HELP`. */
  readonly help: string;
  /** Upper bounds of the buckets, of a histogram. */
  readonly bounds: readonly number[];
  /** The heading it stands under in the documentation. */
  readonly group: Group;
}

export const GROUPS = [
  'Messages from the broker',
  'Results to the broker and to URLs',
  'How long things take',
  'Queues and disk',
  'Journal',
  'Workers',
  'Connection',
  'The process',
] as const;

export type Group = (typeof GROUPS)[number];

/** From half a millisecond, what a message on a fast disk takes at best, to an hour. */
const LATENCIES = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600];
const COMMITS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5];
const BATCHES = [1, 4, 16, 64, 256, 1024, 4096];

function unitOf(name: string): Unit | undefined {
  const stem = name.replace(/_total$/, '');
  return stem.endsWith('_seconds') ? 'seconds' : stem.endsWith('_bytes') ? 'bytes' : undefined;
}

const declared =
  <T extends MetricType>(group: Group, type: T) =>
  (name: string, help: string, labels: readonly string[] = [], bounds: readonly number[] = []): Declaration<T> => ({
    name,
    type,
    unit: unitOf(name),
    labels,
    help,
    bounds,
    group,
  });

const [inbound, outbound, latency, queues, journal, workers, connection, process] = GROUPS;

const inboundCounter = declared(inbound, 'counter');
const inboundGauge = declared(inbound, 'gauge');
const outboundCounter = declared(outbound, 'counter');
const latencyHistogram = declared(latency, 'histogram');
const queueGauge = declared(queues, 'gauge');
const workerGauge = declared(workers, 'gauge');
const connectionCounter = declared(connection, 'counter');
const processGauge = declared(process, 'gauge');
const processCounter = declared(process, 'counter');

export const METRICS = {
  messagesAccepted: inboundCounter(
    'yggdrasil_messages_accepted_total',
    'Messages that are on stable storage and were acknowledged to the broker, replays included.',
    ['directive'],
  ),
  messagesDispatched: inboundCounter(
    'yggdrasil_messages_dispatched_total',
    'Messages handed to a worker; one that is tried again counts again.',
    ['directive'],
  ),
  messagesRetried: inboundCounter(
    'yggdrasil_messages_retried_total',
    'Failed attempts and failed fetches of messages that wait to be tried again.',
    ['directive'],
  ),
  messagesEnded: inboundCounter(
    'yggdrasil_messages_ended_total',
    'Messages that came to their end: state is delivered, expired, cancelled or dead, and reason the code of the error answer (empty when delivered).',
    ['directive', 'state', 'reason'],
  ),
  messagesRefused: inboundCounter(
    'yggdrasil_messages_refused_total',
    'Messages refused at the door, which never became one that could be delivered; reason is the code of the error answer.',
    ['reason'],
  ),
  messagesDuplicate: inboundCounter(
    'yggdrasil_messages_duplicate_total',
    'Messages that were known already, or cancelled before they came: acknowledged and not taken again.',
  ),
  messagesLeft: inboundCounter(
    'yggdrasil_messages_left_total',
    'Messages for which there was no room, on disk or in memory: left to the broker, which sends them again.',
  ),
  messagesHeld: inboundGauge(
    'yggdrasil_messages_held',
    'Messages that wait in memory, unacknowledged, until the spool has room.',
  ),
  messagesUnacknowledged: inboundGauge(
    'yggdrasil_messages_unacknowledged',
    'Messages received on the present connection and not yet acknowledged to the broker.',
  ),

  resultsAccepted: outboundCounter(
    'yggdrasil_results_accepted_total',
    'Results on stable storage, by the worker that made them; worker is agent for error answers of the agent itself.',
    ['worker'],
  ),
  resultsRetried: outboundCounter(
    'yggdrasil_results_retried_total',
    'Times that a result could not be delivered and waits to be tried again.',
  ),
  resultsEnded: outboundCounter(
    'yggdrasil_results_ended_total',
    'Results that came to their end: state is sent (the broker acknowledged), posted (a URL took it) or dead, and reason says why it is dead.',
    ['state', 'reason'],
  ),
  resultsPublishing: declared(outbound, 'gauge')(
    'yggdrasil_results_publishing',
    'Results published and not yet acknowledged by the broker.',
  ),

  stageDuration: latencyHistogram(
    'yggdrasil_stage_duration_seconds',
    'One stage of the way of a message: journal (received to stable storage), queue (from there until it is handed to its worker), outbox (a result from stable storage until it is published or posted), acknowledge (published until the broker acknowledged), post (begun until the URL answered).',
    ['stage'],
    LATENCIES,
  ),
  workerDuration: latencyHistogram(
    'yggdrasil_worker_duration_seconds',
    'From the moment a message is handed to its worker until the worker is done with it, for better or worse.',
    ['directive'],
    LATENCIES,
  ),
  messageDuration: latencyHistogram(
    'yggdrasil_message_duration_seconds',
    'From the arrival of a message until it is delivered, all its attempts included.',
    [],
    LATENCIES,
  ),
  answerDuration: latencyHistogram(
    'yggdrasil_answer_duration_seconds',
    'From the arrival of a message until an answer to it was acknowledged by the broker or by a URL. Of the last 4,096 messages handed to workers; later answers are not counted.',
    [],
    LATENCIES,
  ),

  queueMessages: queueGauge(
    'yggdrasil_queue_messages',
    'Messages in memory by their state: of each queue the first ones, and all that somebody has in hand. What waits behind them is only on disk: see yggdrasil_journal_pending.',
    ['directive', 'state'],
  ),
  queueOldest: queueGauge(
    'yggdrasil_queue_oldest_seconds',
    'Age of the oldest message in memory that has not ended; 0 when there is none.',
  ),
  outboxResults: queueGauge('yggdrasil_outbox_results', 'Results in memory by their state.', ['state']),
  outboxOldest: queueGauge(
    'yggdrasil_outbox_oldest_seconds',
    'Age of the oldest result in memory that has not ended; 0 when there is none.',
  ),
  fetches: queueGauge('yggdrasil_fetches', 'Fetches of detached content that run, or wait for their turn.', ['state']),
  posts: queueGauge('yggdrasil_posts', 'POSTs of results that run, or wait for their turn.', ['state']),
  pending: queueGauge(
    'yggdrasil_journal_pending',
    'Messages and results in the journal that have not ended, in memory or not.',
  ),
  dead: queueGauge('yggdrasil_journal_dead', 'Messages that were given up and are kept.'),
  spool: queueGauge('yggdrasil_spool_bytes', 'Space that messages and results which have not ended take.'),
  spoolLimit: queueGauge(
    'yggdrasil_spool_limit_bytes',
    'What yggdrasil_spool_bytes may become. At three quarters of it no more messages are taken from the broker.',
  ),
  diskFree: queueGauge(
    'yggdrasil_disk_free_bytes',
    'Free space, for the agent’s user, of the file system that holds state-dir.',
  ),

  journalCommits: declared(journal, 'counter')(
    'yggdrasil_journal_commits_total',
    'Transactions of the journal that are on stable storage.',
  ),
  journalFailures: declared(journal, 'counter')(
    'yggdrasil_journal_commit_failures_total',
    'Transactions of the journal that failed.',
  ),
  journalDuration: declared(journal, 'histogram')(
    'yggdrasil_journal_commit_duration_seconds',
    'How long a transaction and its sync took.',
    [],
    COMMITS,
  ),
  journalBatch: declared(journal, 'histogram')(
    'yggdrasil_journal_batch_changes',
    'Changes in one transaction: many messages share one.',
    [],
    BATCHES,
  ),
  journalSize: declared(journal, 'gauge')(
    'yggdrasil_journal_size_bytes',
    'Size of the journal’s files. They are reused, and do not shrink while the agent runs.',
  ),

  workerState: workerGauge(
    'yggdrasil_worker_state',
    '1 for the state the worker is in, 0 for the others: starting, running, stopping, backoff (it crashed and will be started again), waiting (its file is wrong), stopped, or refused (its executable is not safe to run).',
    ['worker', 'state'],
  ),
  workerRegistered: workerGauge(
    'yggdrasil_worker_registered',
    '1 when the worker has registered and can be given messages.',
    ['worker'],
  ),
  workerRestarts: declared(workers, 'counter')(
    'yggdrasil_worker_restarts_total',
    'Times the worker was started again since the agent started.',
    ['worker'],
  ),
  workerStarted: workerGauge(
    'yggdrasil_worker_start_time_seconds',
    'When the worker’s process was started, in seconds since 1970; missing while it has none.',
    ['worker'],
  ),
  workerMemory: workerGauge(
    'yggdrasil_worker_resident_memory_bytes',
    'Resident memory of the worker’s own process, without its children; missing while it has none.',
    ['worker'],
  ),

  connectionUp: declared(connection, 'gauge')(
    'yggdrasil_connection_up',
    '1 while the agent is connected to a broker and subscribed.',
  ),
  connections: connectionCounter('yggdrasil_connections_total', 'Times the connection to a broker came up.'),
  connectionEnds: connectionCounter(
    'yggdrasil_connection_ends_total',
    'Times a connection that was up ended; requested, moving and stopped are the agent’s own wish.',
    ['reason'],
  ),
  connectionFailures: connectionCounter(
    'yggdrasil_connection_failures_total',
    'Rounds through the list of brokers in which none could be connected to; reason is that of the last.',
    ['reason'],
  ),

  build: processGauge('yggdrasil_build_info', 'Always 1; the labels tell the version of the agent and of Node.', [
    'version',
    'node_version',
  ]),
  started: processGauge('yggdrasil_start_time_seconds', 'When this agent was started, in seconds since 1970.'),
  ready: processGauge('yggdrasil_ready', '1 when /readyz would say yes to what it can tell without writing.'),
  loopDelay: declared(process, 'summary')(
    'yggdrasil_event_loop_delay_seconds',
    'How late the event loop is, looked at every 20 ms. The quantiles are of the time since the last look but one, at least ten seconds.',
    ['quantile'],
  ),
  loopActive: processCounter(
    'yggdrasil_event_loop_active_seconds_total',
    'Time that the event loop was busy, as opposed to waiting.',
  ),
  cpu: processCounter('process_cpu_seconds_total', 'User and system time of the agent’s process.'),
  resident: processGauge('process_resident_memory_bytes', 'Resident memory of the agent’s process.'),
  virtual: processGauge('process_virtual_memory_bytes', 'Virtual memory of the agent’s process.'),
  descriptors: processGauge('process_open_fds', 'Open file descriptors of the agent’s process.'),
  maxDescriptors: processGauge('process_max_fds', 'Open file descriptors that the agent’s process may have.'),
  processStarted: processGauge(
    'process_start_time_seconds',
    'When the agent’s process was started, in seconds since 1970.',
  ),
  heapUsed: processGauge('nodejs_heap_size_used_bytes', 'Memory that JavaScript objects take.'),
  heapTotal: processGauge('nodejs_heap_size_total_bytes', 'Memory that is kept for JavaScript objects.'),
  external: processGauge('nodejs_external_memory_bytes', 'Memory outside of the heap that JavaScript objects hold.'),
} as const satisfies Record<string, Declaration>;
