/**
 * Which URLs the agent may be sent to, and as whom (CONTRACT section 3, URLs). Pure functions over a policy that is
 * parsed once; the connector applies them to each connection, so that a redirect or a pooled client cannot go around.
 * Loopback is reachable only where the operator listed the host; link-local and metadata addresses never are.
 */
import { isIP } from 'node:net';
import { AgentError } from '../errors.js';
import { quoted, urlFrom } from '../message/index.js';
import { addressKind } from './address.js';

/** What the operator set. */
export interface UrlSettings {
  /** Hosts, host:port or origins. Undefined: any https host. Empty: none but `dataHost`. */
  readonly contentHosts?: readonly string[] | undefined;
  /** host or host:port that takes the place of each URL's host. */
  readonly dataHost?: string | undefined;
  /** The `broker` list: their hosts may see the agent's certificate. */
  readonly brokers?: readonly string[] | undefined;
}

interface Place {
  readonly hostname: string;
  /** Undefined: any port. */
  readonly port: string | undefined;
}

interface Entry extends Place {
  readonly protocol: 'http:' | 'https:';
}

/** Parsed settings; made by `createUrlPolicy` only. */
export interface UrlPolicy {
  readonly entries: readonly Entry[] | undefined;
  readonly dataHost: Place | undefined;
  readonly brokerHosts: ReadonlySet<string>;
}

export type UrlVerdict =
  | {
      readonly kind: 'allowed';
      /** Named in content-hosts: the only way to a loopback address. */
      readonly isListed: boolean;
      /** May be shown the agent's certificate. */
      readonly isTrusted: boolean;
    }
  | { readonly kind: 'refused'; readonly reason: string };

/** Parses the settings. Throws `config.invalid` that names each entry that is no host. */
export function createUrlPolicy(settings: UrlSettings): UrlPolicy {
  const problems: string[] = [];
  const parsed = <T>(text: string, parse: (text: string) => T | undefined, problem: string): T[] => {
    const value = parse(text.trim());
    if (value === undefined) problems.push(problem);
    return value === undefined ? [] : [value];
  };
  const entries = settings.contentHosts?.flatMap((text) =>
    parsed(text, parseEntry, `content-hosts: ${quoted(text)} is no host, host:port or origin such as http://host:8080`),
  );
  const dataHost = settings.dataHost?.trim() || undefined;
  const [dataPlace] =
    dataHost === undefined
      ? []
      : parsed(dataHost, parsePlace, `data-host: ${quoted(dataHost)} is no host or host:port`);
  if (problems.length > 0) throw new AgentError('config.invalid', problems.join('; '));
  const brokerHosts = (settings.brokers ?? []).map(hostOfBroker).filter((host) => host !== undefined);
  return { entries, dataHost: dataPlace, brokerHosts: new Set(brokerHosts) };
}

/** An http or https URL from text that came from outside, or undefined. Its length is bounded. */
export function parseHttpUrl(text: string): URL | undefined {
  const url = text.length > MAX_URL_LENGTH ? undefined : urlFrom(text);
  return url?.protocol === 'http:' || url?.protocol === 'https:' ? url : undefined;
}

const MAX_URL_LENGTH = 16 * 1024;

/** The URL with `data-host` in the place of its host, and of its port where the setting has one. */
export function withDataHost(policy: UrlPolicy, url: URL): URL {
  const { dataHost } = policy;
  if (dataHost === undefined) return url;
  const replaced = new URL(url);
  replaced.hostname = isIP(dataHost.hostname) === 6 ? `[${dataHost.hostname}]` : dataHost.hostname;
  if (dataHost.port !== undefined) replaced.port = dataHost.port;
  return replaced;
}

/** Judges all of a URL but the addresses its name stands for. */
export function judgeUrl(policy: UrlPolicy, url: URL): UrlVerdict {
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    return { kind: 'refused', reason: `${url.protocol} is not http or https` };
  }
  const isListed = policy.entries?.some((entry) => entry.protocol === url.protocol && isAt(entry, url)) ?? false;
  const isDataHost = policy.dataHost !== undefined && isAt(policy.dataHost, url);
  if (url.protocol === 'http:' && !isListed) {
    return { kind: 'refused', reason: `plain http to ${url.host} needs "http://${url.host}" in content-hosts` };
  }
  if (policy.entries !== undefined && !isListed && !isDataHost) {
    return { kind: 'refused', reason: `${url.host} is not in content-hosts` };
  }
  const isTrusted = url.protocol === 'https:' && (isListed || isDataHost || policy.brokerHosts.has(hostnameOf(url)));
  const verdict: UrlVerdict = { kind: 'allowed', isListed, isTrusted };
  const address = literalAddress(url);
  const refusal = address === undefined ? undefined : refusalOf(address, isListed);
  return refusal === undefined ? verdict : { kind: 'refused', reason: refusal };
}

/** Why `address` may not be connected to, or undefined when it may. */
export function refusalOf(address: string, isListed: boolean): string | undefined {
  const kind = addressKind(address);
  if (kind === 'usable' || (kind === 'loopback' && isListed)) return undefined;
  return kind === 'loopback'
    ? `${address} is a loopback address, which only a host listed in content-hosts may have`
    : `${address} is a ${kind} address`;
}

/** The host as names are resolved and compared: without brackets, without a dot at the end. */
export function hostnameOf(url: URL): string {
  return bareHost(url.hostname);
}

/** The address when the host is one, not a name. */
export function literalAddress(url: URL): string | undefined {
  const host = hostnameOf(url);
  return isIP(host) === 0 ? undefined : host;
}

/** The URL for logs and errors: no user, password, query or fragment, which may hold secrets. */
export function describeUrl(url: URL): string {
  return `${url.origin}${url.pathname}`;
}

function isAt(place: Place, url: URL): boolean {
  return place.hostname === hostnameOf(url) && (place.port === undefined || place.port === portOf(url));
}

/** The port, also when it is the scheme's own. */
export function portOf(url: URL): string {
  return url.port || (url.protocol === 'https:' ? '443' : '80');
}

function parseEntry(text: string): Entry | undefined {
  const scheme = /^(https?):\/\//i.exec(text);
  if (scheme === null) {
    const place = parsePlace(text);
    return place && { protocol: 'https:', ...place };
  }
  const url = parseHttpUrl(text);
  if (url === undefined || url.pathname !== '/' || url.search !== '' || url.hash !== '' || url.username !== '') {
    return undefined;
  }
  const protocol = url.protocol === 'http:' ? 'http:' : 'https:';
  return { protocol, hostname: hostnameOf(url), port: portOf(url) };
}

/** host, host:port, [v6], [v6]:port or a bare IPv6 address. */
function parsePlace(text: string): Place | undefined {
  // Node's expression for these addresses takes 5 ms to compile: only where two colons make one likely.
  const host = /:.*:/.test(text) && isIP(text) === 6 ? `[${text}]` : text;
  const url = host === '' || /[/?#@\\\s*]/.test(host) ? undefined : urlFrom(`https://${host}`);
  if (url === undefined) return undefined;
  const port = /:(\d+)$/.exec(host)?.[1];
  return { hostname: hostnameOf(url), port: port === undefined ? undefined : String(Number(port)) };
}

/** A broker's URL has a scheme that is not special, so the host is parsed again as https has it. */
function hostOfBroker(text: string): string | undefined {
  const host = /^[a-z]+:\/\/(?:[^@/]*@)?([^/?#]+)/i.exec(text.trim())?.[1] ?? text.trim();
  return parsePlace(host)?.hostname;
}

function bareHost(hostname: string): string {
  return hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '');
}
