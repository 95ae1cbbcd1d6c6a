/** Where facts come from, as a port, and the machine's own. Any of its calls may fail; the reader makes do. */
import { lookup, lookupService } from 'node:dns/promises';
import { readdir, readFile } from 'node:fs/promises';
import { hostname, networkInterfaces } from 'node:os';

export interface FactSources {
  readText(path: string): Promise<string>;
  /** IPv4 addresses, without those of the loopback. */
  ipv4Addresses(): readonly string[];
  /** Hardware addresses of all interfaces, without the loopback. */
  macAddresses(): Promise<readonly string[]>;
  hostName(): string;
  /** The full name of a host, or the empty text. May take as long as the name servers like. */
  resolveHostName(host: string): Promise<string>;
}

const INTERFACES = '/sys/class/net';

export const systemSources: FactSources = {
  readText: (path) => readFile(path, 'utf8'),
  ipv4Addresses: () =>
    Object.values(networkInterfaces())
      .flatMap((addresses) => addresses ?? [])
      .filter(({ family, internal }) => family === 'IPv4' && !internal)
      .map(({ address }) => address),
  // The kernel's list also has the interfaces that have no address now.
  macAddresses: async () => {
    const names = (await readdir(INTERFACES)).filter((name) => name !== 'lo');
    const read = names.map((name) => readFile(`${INTERFACES}/${name}/address`, 'utf8').catch(() => ''));
    return (await Promise.all(read))
      .map((text) => text.trim())
      .filter((mac) => /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(mac));
  },
  hostName: hostname,
  resolveHostName: async (host) =>
    nameInHosts(await readFile('/etc/hosts', 'utf8').catch(() => ''), host) || (await nameInDns(host)),
};

/** The first full name in the line of hosts(5) that names `host`. */
export function nameInHosts(hosts: string, host: string): string {
  for (const line of hosts.split('\n')) {
    const [, ...names] = (line.split('#')[0] ?? '').trim().split(/\s+/);
    if (!names.includes(host)) continue;
    const full = names.find((name) => name.includes('.') && name !== 'localhost.localdomain');
    if (full !== undefined) return full;
  }
  return '';
}

async function nameInDns(host: string): Promise<string> {
  const { address } = await lookup(host, { family: 4 });
  const { hostname: name } = await lookupService(address, 0);
  return name.includes('.') && name !== address && name !== 'localhost.localdomain' ? name : '';
}
