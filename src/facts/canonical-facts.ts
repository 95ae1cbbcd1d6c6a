/**
 * The canonical facts (PROTOCOL, section 1): what a server knows this machine by. A source that is missing, unreadable
 * or slow gives an empty value and never a failure. All sources are handed in, so that a test can be any machine.
 */
import { X509Certificate } from 'node:crypto';
import { errnoOf, errorText } from '../errors.js';
import type { Log } from '../log/log.js';
import type { CanonicalFacts } from '../message/envelope.js';
import type { Clock, Millis } from '../time.js';
import type { FactSources } from './sources.js';

export interface FactsOptions {
  readonly sources: FactSources;
  readonly clock: Clock;
  readonly log: Log;
  /** The setting `facts-file`: a JSON object whose members replace the facts of the same name. */
  readonly factsFile?: string | undefined;
  /** How long finding the full host name may take; name servers can be silent for long. */
  readonly fqdnTimeout?: Millis;
}

const FQDN_TIMEOUT = 2000;

/** Reads all facts anew. Never rejects; takes at most a little longer than `fqdnTimeout`. */
export async function readCanonicalFacts(options: FactsOptions): Promise<CanonicalFacts> {
  const { sources } = options;
  const [insightsId, machineId, biosUuid, consumer, fqdn, macs] = await Promise.all([
    textOf(options, '/etc/insights-client/machine-id'),
    textOf(options, '/etc/machine-id'),
    textOf(options, '/sys/class/dmi/id/product_uuid'),
    textOf(options, '/etc/pki/consumer/cert.pem'),
    fullHostName(options),
    attempt(() => sources.macAddresses(), []),
  ]);
  const found: CanonicalFacts = {
    insights_id: insightsId,
    machine_id: dashed(machineId),
    bios_uuid: biosUuid,
    subscription_manager_id: commonNameOf(consumer),
    ip_addresses: await attempt(() => sources.ipv4Addresses(), []),
    mac_addresses: [...new Set(macs)].filter((mac) => mac !== '' && !/^(00:)+00$/.test(mac)).sort(),
    fqdn,
  };
  return { ...found, ...(await replacements(options)) };
}

/** The 32 hex digits of machine-id(5) in groups; what is not such an id, such as `uninitialized`, is none. */
export function dashed(machineId: string): string {
  const match = /^([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})$/i.exec(machineId);
  return match === null ? '' : match.slice(1).join('-').toLowerCase();
}

async function textOf({ sources, log }: FactsOptions, path: string): Promise<string> {
  try {
    return (await sources.readText(path)).trim();
  } catch (error) {
    // Most machines lack some of these; a developer may want to know which, and why.
    log.debug('facts.source_missing', 'a source of facts cannot be read', {
      path,
      reason: errnoOf(error) ?? errorText(error),
    });
    return '';
  }
}

async function attempt<T>(read: () => T | Promise<T>, otherwise: T): Promise<T> {
  try {
    return await read();
  } catch {
    return otherwise; // a machine without this source
  }
}

function commonNameOf(pem: string): string {
  if (pem === '') return '';
  try {
    return /^CN=(.+)$/m.exec(new X509Certificate(pem).subject)?.[1] ?? '';
  } catch {
    return ''; // not a certificate: the machine is not registered
  }
}

async function fullHostName({ sources, clock, fqdnTimeout = FQDN_TIMEOUT }: FactsOptions): Promise<string> {
  const host = await attempt(() => sources.hostName(), '');
  if (host === '' || host.includes('.')) return host;
  const scope = new AbortController();
  const tooLate = new Promise<string>((resolve) => clock.after(fqdnTimeout, () => resolve(''), scope.signal));
  const found = await Promise.race([attempt(() => sources.resolveHostName(host), ''), tooLate]);
  scope.abort();
  return found === '' ? host : found.replace(/\.$/, '');
}

const LISTS = ['ip_addresses', 'mac_addresses'] as const;
const TEXTS = ['insights_id', 'machine_id', 'bios_uuid', 'subscription_manager_id', 'fqdn'] as const;

function isTextList(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((entry) => typeof entry === 'string');
}

/** The members of the facts file that are facts. */
async function replacements({ sources, factsFile, log }: FactsOptions): Promise<Partial<CanonicalFacts>> {
  if (factsFile === undefined) return {};
  try {
    const value: unknown = JSON.parse(await sources.readText(factsFile));
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error('it is not a JSON object');
    const given = new Map<string, unknown>(Object.entries(value));
    const texts: Partial<Record<(typeof TEXTS)[number], string>> = Object.fromEntries(
      TEXTS.flatMap((name) => {
        const text = given.get(name);
        return typeof text === 'string' ? [[name, text] as const] : [];
      }),
    );
    const lists: Partial<Record<(typeof LISTS)[number], readonly string[]>> = Object.fromEntries(
      LISTS.flatMap((name) => {
        const list = given.get(name);
        return isTextList(list) ? [[name, list] as const] : [];
      }),
    );
    const taken = { ...texts, ...lists };
    const left = [...given.keys()].filter((name) => !Object.hasOwn(taken, name));
    if (left.length > 0)
      log.debug('facts.file_members', 'members of facts-file are no canonical facts', { file: factsFile, left });
    return taken;
  } catch (error) {
    // The original's default names a file that most machines do not have.
    if (errnoOf(error) === 'ENOENT') return {};
    log.warn('facts.file_unreadable', `facts-file is left out: ${errorText(error)}`, { file: factsFile });
    return {};
  }
}
