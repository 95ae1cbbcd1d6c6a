/** How a machine is to be enrolled: what the flags of `ygg connect` mean together. Decided before anything is done. */
import { AgentError } from '../../errors.js';
import { NAME_RULE, parseClientId, urlFrom } from '../../message/index.js';

export interface ConnectFlags {
  readonly organization?: string;
  readonly activationKey?: readonly string[];
  readonly activationKeyFile?: string;
  readonly username?: string;
  readonly passwordFile?: string;
  readonly serverUrl?: string;
  readonly environment?: readonly string[];
  readonly contentTemplate?: readonly string[];
  readonly enableContent?: boolean;
  readonly cert?: string;
  readonly key?: string;
  readonly ca?: string;
  readonly csr?: string | true;
  readonly clientId?: string;
  readonly broker?: readonly string[];
  readonly config?: string;
  readonly group?: string;
  readonly force?: boolean;
  /** `--no-start` makes it false. */
  readonly start: boolean;
  readonly timeout?: number;
  readonly json?: boolean;
}

/** Where the registration service finds its server, as its connection options have it. */
export interface Server {
  readonly host: string;
  readonly port: string;
  readonly handler: string;
}

export type Way =
  | {
      readonly kind: 'registration';
      readonly organization: string;
      readonly by:
        | { readonly kind: 'keys'; readonly keys: readonly string[]; readonly keyFile: string | undefined }
        | { readonly kind: 'user'; readonly username: string; readonly passwordFile: string | undefined };
      readonly server: Server | undefined;
    }
  | {
      readonly kind: 'certificate';
      readonly cert: string;
      readonly key: string | undefined;
      readonly ca: string | undefined;
    }
  | { readonly kind: 'request'; readonly file: string | undefined; readonly clientId: string | undefined }
  /** Nothing but the agent's start: it was enrolled before, or by hand. */
  | { readonly kind: 'start' };

/** Throws `connect.usage`: one text that names what does not go together. */
export function wayOf(flags: ConnectFlags): Way {
  const { organization, activationKey, activationKeyFile, username, cert, csr } = flags;
  const isByKeys = activationKey !== undefined || activationKeyFile !== undefined;
  const ways = [
    ...(isByKeys ? ['activation keys'] : []),
    ...(username === undefined ? [] : ['--username']),
    ...(cert === undefined ? [] : ['--cert']),
    ...(csr === undefined ? [] : ['--csr']),
  ];
  if (ways.length > 1) throw usage(`${ways.join(' and ')} are two ways to enrol: choose one`);
  const isRegistration = isByKeys || username !== undefined;
  refuseWithout(isRegistration, flags, REGISTRATION, 'a registration, by --activation-key or --username');
  refuseWithout(cert !== undefined, flags, ['key', 'ca'], '--cert');
  refuseWithout(username !== undefined, flags, ['passwordFile'], '--username');
  refuseWithout(csr !== undefined, flags, ['clientId'], '--csr: with a certificate its CN is the client id');
  if (csr !== undefined) return requestOf(flags, csr);
  if (cert !== undefined) return { kind: 'certificate', cert, key: flags.key, ca: flags.ca };
  if (!isRegistration) return { kind: 'start' };
  const server = flags.serverUrl === undefined ? undefined : serverOf(flags.serverUrl);
  if (username !== undefined) {
    const by = { kind: 'user', username, passwordFile: flags.passwordFile } as const;
    return { kind: 'registration', organization: organization ?? '', by, server };
  }
  if (organization === undefined || organization === '')
    throw usage('activation keys need the organization they are of: --organization');
  const by = { kind: 'keys', keys: keysOf(activationKey ?? []), keyFile: activationKeyFile } as const;
  return { kind: 'registration', organization, by, server };
}

const REGISTRATION = ['organization', 'serverUrl', 'environment', 'contentTemplate', 'enableContent'] as const;

function requestOf({ clientId }: ConnectFlags, csr: string | true): Way {
  if (clientId !== undefined && parseClientId(clientId) === undefined)
    throw usage(`${JSON.stringify(clientId)} cannot be a client id (${NAME_RULE})`);
  return { kind: 'request', file: csr === true ? undefined : csr, clientId };
}

/** Several may stand in one argument, with commas between. */
export function keysOf(texts: readonly string[]): readonly string[] {
  return texts.flatMap((text) => text.split(',').map((key) => key.trim())).filter((key) => key !== '');
}

/** `https://host:port/handler`; the scheme may be missing, as in rhsm.conf. */
function serverOf(text: string): Server {
  const url = urlFrom(/^[a-z]+:\/\//i.test(text) ? text : `https://${text}`);
  if (url?.protocol !== 'https:' || url.hostname === '' || url.username !== '' || url.password !== '')
    throw usage(`${JSON.stringify(text)} is no address of a server: https://HOST[:PORT][/PATH]`);
  return { host: url.hostname, port: url.port || '443', handler: url.pathname === '/' ? '' : url.pathname };
}

const FLAG_NAMES: Partial<Record<keyof ConnectFlags, string>> = {
  organization: '--organization',
  serverUrl: '--server-url',
  environment: '--environment',
  contentTemplate: '--content-template',
  enableContent: '--enable-content',
  key: '--key',
  ca: '--ca',
  passwordFile: '--password-file',
  clientId: '--client-id',
};

function refuseWithout(
  isThere: boolean,
  flags: ConnectFlags,
  names: readonly (keyof ConnectFlags)[],
  what: string,
): void {
  const given = names.filter((name) => flags[name] !== undefined);
  if (isThere || given.length === 0) return;
  throw usage(`${given.map((name) => FLAG_NAMES[name] ?? name).join(', ')} belongs to ${what}`);
}

function usage(text: string): AgentError {
  return new AgentError('connect.usage', text);
}
