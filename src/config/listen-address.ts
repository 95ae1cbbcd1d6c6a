/** A place to listen: a port of this machine alone, an address that was named, or a Unix socket. */
import { isIP } from 'node:net';
import { isAbsolute } from 'node:path';
import type { Kind } from './kinds.js';

export type ListenAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

/** sun_path has 108 bytes on Linux, the last of them NUL. */
const MAX_SOCKET_PATH = 107;

/** `9464`, `127.0.0.1:9464`, `[::1]:9464` or `unix:/path`; a port alone is one of 127.0.0.1. */
export function listenAddress(): Kind<ListenAddress> {
  return {
    check: (value) => {
      const address = typeof value === 'number' || typeof value === 'string' ? parsed(String(value)) : undefined;
      return address === undefined ? { kind: 'refused' } : { kind: 'ok', value: address };
    },
    expects: `a port, an IP address with a port such as "127.0.0.1:9464" or "[::1]:9464", or "unix:" and an absolute path of at most ${MAX_SOCKET_PATH} bytes`,
    argument: 'ADDRESS',
    fromText: (value) => value,
    toToml: (address) => JSON.stringify(textOf(address)),
  };
}

function parsed(text: string): ListenAddress | undefined {
  const trimmed = text.trim();
  if (trimmed.startsWith('unix:')) {
    const path = trimmed.slice('unix:'.length);
    const isGood = isAbsolute(path) && !path.endsWith('/') && !path.includes('\0');
    return isGood && Buffer.byteLength(path) <= MAX_SOCKET_PATH ? { kind: 'unix', path } : undefined;
  }
  const match = /^(?:(?:\[([^\]]+)\]|([^:[\]]+)):)?(\d{1,5})$/.exec(trimmed);
  if (match === null) return undefined;
  const [, six, name = '127.0.0.1', digits = ''] = match;
  const host = six ?? (name === 'localhost' ? '127.0.0.1' : name);
  const port = Number(digits);
  if (port > 65_535 || isIP(host) !== (six === undefined ? 4 : 6)) return undefined;
  return { kind: 'tcp', host, port };
}

function textOf(address: ListenAddress): string {
  if (address.kind === 'unix') return `unix:${address.path}`;
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return `${host}:${address.port}`;
}
