/**
 * Whether a request was meant for this server. A web page whose name an attacker makes point to 127.0.0.1 can have its
 * visitor's browser ask us (DNS rebinding), but the browser then says that name in Host. So only addresses pass, which
 * nobody can make point elsewhere, `localhost`, and the names an operator has listed.
 */
import { isIP } from 'node:net';

/** `host` as it stands in the header, with or without a port; undefined when there was none. */
export function isHostAllowed(host: string | undefined, names: readonly string[]): boolean {
  const match = /^(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::\d{1,5})?$/.exec(host ?? '');
  if (match === null) return false;
  const [, six, name = ''] = match;
  if (six !== undefined) return isIP(six) === 6;
  if (isIP(name) === 4) return true;
  const called = name.toLowerCase().replace(/\.$/, '');
  return called === 'localhost' || names.some((each) => each.toLowerCase() === called);
}
