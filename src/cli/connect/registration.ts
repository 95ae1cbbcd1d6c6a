/**
 * The registration service of Red Hat's systems, `com.redhat.RHSM1`. Credentials go over a private socket that the
 * service opens on request, since anybody may listen on the system bus; the socket is closed again whatever happens.
 * Interface: candlepinproject.org, "Subscription Manager D-Bus Objects".
 */
import { Bus, type Call, type Variant } from '../../dbus/index.js';
import { AgentError, errorText } from '../../errors.js';
import { printable } from '../../message/index.js';
import type { Millis } from '../../time.js';
import type { Server } from './way.js';

const SERVICE = 'com.redhat.RHSM1';
const PATH = '/com/redhat/RHSM1';
/** Errors of the bus itself that say that nobody offers the service. */
const NO_SERVICE = [
  'org.freedesktop.DBus.Error.ServiceUnknown',
  'org.freedesktop.DBus.Error.NameHasNoOwner',
  'org.freedesktop.DBus.Error.Spawn.ServiceNotFound',
];
/** What is shown of an error, in characters: a server may answer with a page. */
const LONGEST_TEXT = 2_000;
const STOP_WITHIN: Millis = 5_000;
/** Where consumer certificates are when the service does not say (rhsm.conf(5)). */
const CONSUMER_DIR = '/etc/pki/consumer';

export type Proof =
  | { readonly kind: 'keys'; readonly keys: readonly string[] }
  | { readonly kind: 'user'; readonly username: string; readonly password: string };

export interface Enrolment {
  /** Empty: the one that the user is in. */
  readonly organization: string;
  readonly proof: Proof;
  readonly server: Server | undefined;
  readonly environments: readonly string[];
  readonly contentTemplates: readonly string[];
  readonly isContentWanted: boolean;
  readonly isForced: boolean;
}

export interface RegistrationOptions {
  readonly bus: Bus;
  /** How long the service may take to register, or to take that back: it asks a server far away. */
  readonly registerWithin: Millis;
  readonly scope: AbortSignal;
  /** Language and country of messages, as in LANG. */
  readonly locale: string;
}

export class Registration {
  constructor(private readonly options: RegistrationOptions) {}

  /** Who this machine is there; undefined when it is not registered. Throws `connect.no_service`, `dbus.*`. */
  async consumer(): Promise<string | undefined> {
    const [uuid] = await this.#call('Consumer', 'GetUuid', 's', [this.options.locale]);
    return typeof uuid === 'string' && uuid !== '' ? uuid : undefined;
  }

  /** Registers, and gives the consumer's uuid. Throws `connect.refused` with what the service says. */
  async register(enrolment: Enrolment): Promise<string> {
    const { locale } = this.options;
    const [address] = await this.#call('RegisterServer', 'Start', 's', [locale]);
    try {
      if (typeof address !== 'string')
        throw new AgentError('connect.refused', 'the registration service gave no address');
      await this.#registerAt(address, enrolment);
    } finally {
      await this.#stopServer();
    }
    return (await this.consumer()) ?? '';
  }

  /** Takes the registration back. */
  async unregister(): Promise<void> {
    const { locale, registerWithin } = this.options;
    await this.#call('Unregister', 'Unregister', 'a{sv}s', [[], locale], registerWithin);
  }

  /** Where the certificate and key of the consumer are kept. */
  async consumerFiles(): Promise<{ readonly cert: string; readonly key: string }> {
    let directory = CONSUMER_DIR;
    try {
      const [value] = await this.#call('Config', 'Get', 'ss', ['rhsm.consumercertdir', this.options.locale]);
      if (typeof value === 'string' && value.startsWith('/')) directory = value.replace(/\/+$/, '');
    } catch (error) {
      // Older services answer this otherwise; their place is the usual one.
      if (!(error instanceof AgentError) || error.code !== 'connect.refused') throw error;
    }
    return { cert: `${directory}/cert.pem`, key: `${directory}/key.pem` };
  }

  async #registerAt(address: string, enrolment: Enrolment): Promise<void> {
    const { registerWithin: answerWithin, scope, locale } = this.options;
    await using peer = await Bus.connect({ address, isPeer: true, answerWithin, scope });
    const { organization, proof } = enrolment;
    const [options, connection] = [optionsOf(enrolment), connectionOf(enrolment.server)];
    const call =
      proof.kind === 'keys'
        ? methodOf('Register', 'RegisterWithActivationKeys', 'sasa{sv}a{sv}s', [
            ...[organization, [...proof.keys], options, connection, locale],
          ])
        : methodOf('Register', 'Register', 'sssa{sv}a{sv}s', [
            ...[organization, proof.username, proof.password, options, connection, locale],
          ]);
    try {
      await peer.call(call);
    } catch (error) {
      const refusal = refusalOf(error);
      if (proof.kind !== 'user' || !isOrganizationMissing(refusal)) throw refusal;
      const names = await organizationsOf(peer, proof, connection, locale);
      throw new AgentError(
        'connect.refused',
        `${refusal.message}: name one with --organization${names.length === 0 ? '' : ` (${printable(names.join(', '), LONGEST_TEXT)})`}`,
        refusal.details,
        { cause: error },
      );
    }
  }

  /** After an interruption too. A call that fails here would hide what failed before. */
  async #stopServer(): Promise<void> {
    const { bus, locale } = this.options;
    const stop = methodOf('RegisterServer', 'Stop', 's', [locale]);
    await bus.call(stop, STOP_WITHIN, new AbortController().signal).catch(() => undefined);
  }

  async #call(
    object: string,
    member: string,
    signature: string,
    body: readonly unknown[],
    answerWithin?: Millis,
  ): Promise<readonly unknown[]> {
    try {
      return await this.options.bus.call(methodOf(object, member, signature, body), answerWithin);
    } catch (error) {
      throw refusalOf(error);
    }
  }
}

function methodOf(object: string, member: string, signature: string, body: readonly unknown[]): Call {
  return {
    destination: SERVICE,
    path: `${PATH}/${object}`,
    interface: `${SERVICE}.${object}`,
    member,
    signature,
    body,
  };
}

/** A dictionary `a{sv}` as the client package takes it. */
type Dictionary = readonly (readonly [string, Variant])[];

function optionsOf(enrolment: Enrolment): Dictionary {
  const { environments, contentTemplates, isContentWanted, isForced } = enrolment;
  // Only what was asked for: a service that does not know an option refuses the whole call.
  return [
    ...(environments.length === 0 ? [] : [['environment', ['s', environments.join(',')]] as const]),
    ...(contentTemplates.length === 0
      ? []
      : [
          ['environment_names', ['s', contentTemplates.join(',')]] as const,
          ['environment_type', ['s', 'content-template']] as const,
        ]),
    ...(isContentWanted ? [['enable_content', ['b', true]] as const] : []),
    ...(isForced ? [['force', ['b', true]] as const] : []),
  ];
}

function connectionOf(server: Server | undefined): Dictionary {
  if (server === undefined) return [];
  const { host, port, handler } = server;
  return [
    ['host', ['s', host]],
    ['port', ['s', port]],
    ...(handler === '' ? [] : [['handler', ['s', handler]] as const]),
  ];
}

function isOrganizationMissing(error: AgentError): boolean {
  return error.details['exception'] === 'OrgNotSpecifiedException';
}

async function organizationsOf(
  peer: Bus,
  { username, password }: Extract<Proof, { kind: 'user' }>,
  connection: Dictionary,
  locale: string,
): Promise<readonly string[]> {
  try {
    const [text] = await peer.call(
      methodOf('Register', 'GetOrgs', 'ssa{sv}s', [username, password, connection, locale]),
    );
    const list: unknown = JSON.parse(String(text));
    return Array.isArray(list)
      ? list.flatMap((each: { readonly key?: unknown }) => (typeof each.key === 'string' ? [each.key] : []))
      : [];
  } catch {
    // The list is help only; the refusal stands without it.
    return [];
  }
}

/** What the service refused, as text: it writes errors as a JSON document `{exception, severity, message}`. */
export function refusalOf(error: unknown): AgentError {
  if (!(error instanceof AgentError)) throw error;
  if (error.code !== 'dbus.refused') return error;
  const name = String(error.details['name']);
  if (NO_SERVICE.includes(name)) {
    return new AgentError(
      'connect.no_service',
      'this machine has no registration service (com.redhat.RHSM1): install subscription-manager, or enrol with a certificate (ygg connect --cert FILE --key FILE, or --csr)',
      {},
      { cause: error },
    );
  }
  const { exception, message } = documentOf(errorText(error));
  return new AgentError('connect.refused', printable(message, LONGEST_TEXT), { name, exception }, { cause: error });
}

function documentOf(text: string): { readonly exception: string; readonly message: string } {
  try {
    const value = JSON.parse(text) as { readonly exception?: unknown; readonly message?: unknown } | null;
    if (typeof value?.message === 'string')
      return { exception: typeof value.exception === 'string' ? value.exception : '', message: value.message.trim() };
  } catch {
    // Older services write plain text.
  }
  return { exception: '', message: text.trim() };
}
