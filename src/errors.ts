/**
 * The one catalogue of errors: every code, what it means and what a person should do. docs/errors.md is made from it.
 * Outcomes that a caller must handle are unions, not errors; what stands here ends an operation.
 */

interface CatalogueEntry {
  /** What happened. */
  readonly meaning: string;
  /** What to do about it. */
  readonly remedy: string;
  /** Whether trying the same again may help. */
  readonly isRetryable: boolean;
  /** The exit code of a program that ends because of it. */
  readonly exitCode: number;
}

const entry = (exitCode: number, isRetryable: boolean, meaning: string, remedy: string): CatalogueEntry => ({
  meaning,
  remedy,
  isRetryable,
  exitCode,
});

/** Exit codes follow sysexits(3) where it has one: 64 usage, 69 unavailable, 70 software, 73 cannot create, 78 config. */
export const ERRORS = {
  'config.invalid': entry(
    78,
    false,
    'A setting is wrong.',
    'Mend the lines that the message names; `yggd --check-config` tells when all is well.',
  ),
  'config.unreadable': entry(
    78,
    false,
    'A configuration file cannot be read.',
    'Check that the file exists and that the daemon’s user may read it.',
  ),
  'config.no_broker': entry(
    78,
    false,
    'No broker is set.',
    'Set `broker` in config.toml or pass --broker; --embedded-broker starts one for a first try.',
  ),
  'config.credentials': entry(
    78,
    false,
    'A certificate, key or password file cannot be used.',
    'Check the file, its owner and mode, and that key and certificate belong together.',
  ),
  'state.unwritable': entry(
    73,
    false,
    'The state directory cannot be written.',
    'Give the daemon’s user a writable `state-dir`.',
  ),
  'state.untrusted': entry(
    73,
    false,
    'Others could change the state directory.',
    'Let only the daemon’s user or root own and write it and the directories above it.',
  ),
  'state.in_use': entry(
    73,
    false,
    'Another agent uses this state directory.',
    'Stop that agent, or give this one a `state-dir` of its own.',
  ),
  'state.version': entry(
    73,
    false,
    'The journal was written by a newer version.',
    'Install that version again, or start with another `state-dir`.',
  ),
  'state.corrupt': entry(
    73,
    false,
    'The journal cannot be opened.',
    'Keep a copy of the directory for a report, then start with another `state-dir`.',
  ),
  'journal.write_failed': entry(
    70,
    true,
    'The journal could not be written.',
    'Check the disk’s space and health; what is on it stays.',
  ),
  'content.damaged': entry(
    70,
    false,
    'A content file is gone, or is not what was written.',
    'Check the disk’s health; the message is kept among the dead letters, and its sender was told.',
  ),
  'runtime.path_too_long': entry(
    78,
    false,
    'A socket’s path would be longer than 107 bytes.',
    'Set a shorter `runtime-dir`.',
  ),
  'admin.not_running': entry(
    3,
    true,
    'No agent answers the operator’s command line.',
    'Start it: `systemctl start yggd`. One with a `runtime-dir` of its own is named by --runtime-dir.',
  ),
  'admin.forbidden': entry(
    77,
    false,
    'This user may not speak to the agent.',
    'Be root, or join the group that owns `admin` in the runtime directory (`yggdrasil`, as installed), and log in anew.',
  ),
  'admin.refused': entry(1, false, 'The agent refused what an operator asked for.', 'The message says why.'),
  'bundle.unwritable': entry(
    73,
    false,
    'The support bundle could not be written.',
    'Name a file that is not there, in a directory you may write, with --output.',
  ),
  'message.invalid': entry(
    65,
    false,
    'What an operator wants to send is no message, or cannot be read.',
    'The message says what is wrong: a file, its size, or what stands in it.',
  ),
  'message.no_answer': entry(
    69,
    true,
    'A message that was dispatched on this machine was not answered in time.',
    '`ygg messages trace ID` tells where it is; `ygg messages answers ID` prints the answer when it has come.',
  ),
  'terminal.needed': entry(
    64,
    false,
    'A command that draws on a terminal was started without one.',
    '`ygg status --watch` prints the same line by line, also into a pipe.',
  ),
  'runtime.unusable': entry(
    73,
    false,
    'The runtime directory cannot be used.',
    'Check the owner and mode of `runtime-dir`.',
  ),
  'remote.no_answer': entry(
    69,
    true,
    'An agent did not answer through the broker.',
    'Check its client id and the topic prefix, and look at the machine: `ygg status` there.',
  ),
  'connection.refused': entry(
    69,
    true,
    'The broker refused the connection.',
    'Check user name, password, certificate and the broker’s rules for this client id.',
  ),
  'connection.failed': entry(
    69,
    true,
    'The broker cannot be reached.',
    'Check the address, the network and the broker.',
  ),
  'connection.closed': entry(
    69,
    true,
    'The connection to the broker has ended.',
    'Nothing: the agent connects again by itself.',
  ),
  'dbus.unavailable': entry(
    69,
    true,
    'The machine’s D-Bus cannot be reached.',
    'Check that dbus runs (`systemctl status dbus`) and that this user may speak to it.',
  ),
  'dbus.no_answer': entry(
    69,
    true,
    'A service on the D-Bus did not answer in time.',
    'Look at that service’s log, and try again, with a longer --timeout where it is known to be slow.',
  ),
  'dbus.refused': entry(69, false, 'A service on the D-Bus refused a call.', 'The message says why.'),
  'connect.usage': entry(
    64,
    false,
    'The flags of `ygg connect` do not go together.',
    'The message says what is missing or too much; `ygg connect --help` tells the ways to enrol.',
  ),
  'connect.not_root': entry(77, false, 'Only root may enrol this machine.', 'Run it with sudo.'),
  'connect.refused': entry(
    1,
    false,
    'The registration service refused this machine.',
    'The message is what the service says: check organization, activation keys, user name and password.',
  ),
  'connect.no_service': entry(
    69,
    false,
    'This machine has no registration service (com.redhat.RHSM1).',
    'Install subscription-manager, or enrol with a certificate: --cert or --csr.',
  ),
  'connect.file': entry(
    73,
    false,
    'A file of the enrolment cannot be read or written.',
    'Check the path, and the disk’s space and health; nothing was left half written.',
  ),
  'connect.not_started': entry(
    69,
    true,
    'The machine is enrolled, but its agent could not be started.',
    'Mend what the message and the log lines tell, then run `ygg connect` again.',
  ),
  'connect.incomplete': entry(
    1,
    true,
    'Not every step of `ygg disconnect` could be done.',
    'The message names them; run it again when they are mended.',
  ),
  'worker.untrusted': entry(
    78,
    false,
    'A worker’s executable is not safe to run.',
    'Let only root or the daemon’s user write the file and the directories above it, and set no setuid bit.',
  ),
  'worker.config': entry(
    78,
    false,
    'A worker’s configuration file is wrong.',
    'Mend the lines that the message names; the worker starts when the file is right.',
  ),
  'worker.spawn_failed': entry(
    70,
    true,
    'A worker’s executable could not be started.',
    'Check its first line, its interpreter, its mode and its user.',
  ),
  'worker.unreachable': entry(
    69,
    true,
    'The agent cannot be reached from the worker.',
    'Start the worker through the agent, or set YGG_SOCKET_ADDR.',
  ),
  'worker.refused': entry(
    69,
    false,
    'The agent refused the registration.',
    'See the agent’s log for the reason: often the handler is taken by another worker.',
  ),
  'broker.listen_failed': entry(
    69,
    true,
    'The embedded broker cannot listen.',
    'Choose another port with --embedded-broker PORT.',
  ),
  'metrics.listen_failed': entry(
    69,
    true,
    'Metrics and health cannot be served.',
    'Choose another port or path in `metrics-listen`; let only root and the daemon’s user write the directory of a socket.',
  ),
  'system.install_failed': entry(
    73,
    false,
    'A file could not be installed.',
    'Run as root, or give --prefix or DESTDIR a writable directory.',
  ),
} as const satisfies Record<string, CatalogueEntry>;

export type ErrorCode = keyof typeof ERRORS;

/** Names and values that belong to an error, for the log. Never a secret. */
export type ErrorDetails = Readonly<Record<string, string | number | boolean | undefined>>;

/** The error of this package. Match on `code`, never on the text. */
export class AgentError extends Error {
  override readonly name = 'AgentError';

  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly details: ErrorDetails = {},
    options?: ErrorOptions,
  ) {
    super(message, options);
  }

  get exitCode(): number {
    return ERRORS[this.code].exitCode;
  }

  get isRetryable(): boolean {
    return ERRORS[this.code].isRetryable;
  }
}

/** The text of whatever was thrown. */
export function errorText(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The errno name (ENOENT, EACCES, …) of whatever was thrown, or undefined. */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/** Whether it says that a content is damaged for good; whatever else kept it from being read may pass. */
export function isDamaged(error: unknown): boolean {
  return error instanceof AgentError && error.code === 'content.damaged';
}
