/**
 * D-Bus addresses as the specification has them ("Server Addresses"): `unix:path=/run/x,guid=…`, several with `;`
 * between, tried in turn. Only sockets of this machine are taken: what else an address may name (TCP, a program to
 * start) would let whoever sets the address choose where passwords go.
 */

/** A socket of this machine: a file, or a name in Linux's abstract namespace. */
export type BusSocket =
  { readonly kind: 'path'; readonly path: string } | { readonly kind: 'abstract'; readonly name: string };

/** The sockets that `address` names, in its order; what is of another kind is left out. */
export function parseAddress(address: string): readonly BusSocket[] {
  return address.split(';').flatMap((each): readonly BusSocket[] => {
    const [, pairs] = /^unix:(.*)$/s.exec(each.trim()) ?? [];
    if (pairs === undefined) return [];
    const values = new Map(pairs.split(',').map((pair) => keyAndValue(pair)));
    const path = values.get('path');
    const name = values.get('abstract');
    if (path?.startsWith('/') === true && !path.includes('\0')) return [{ kind: 'path', path }];
    return name === undefined || name === '' || name.includes('\0') ? [] : [{ kind: 'abstract', name }];
  });
}

function keyAndValue(pair: string): readonly [string, string] {
  const at = pair.indexOf('=');
  return at < 0 ? [pair, ''] : [pair.slice(0, at), bytesUnescaped(pair.slice(at + 1))];
}

/** Bytes outside of `-0-9A-Za-z_/.\*` stand as %XX. */
function bytesUnescaped(value: string): string {
  const bytes = value.replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
  return Buffer.from(bytes, 'latin1').toString('utf8');
}
