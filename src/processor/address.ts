/**
 * What an IP address is, seen from a daemon that is told by others where to connect. Pure. Private networks are as
 * good as public ones (Foreman lives there); the addresses that mean this machine, its link or its cloud are not.
 */
import { BlockList, isIP } from 'node:net';

/** `usable` may be connected to; `loopback` only where the operator listed the host; the others never. */
export type AddressKind = 'usable' | 'loopback' | 'link-local' | 'metadata' | 'unspecified' | 'multicast' | 'reserved';

/** Of several kinds that hold, the first counts. `v4` ranges also cover their IPv4-mapped IPv6 form. */
const RANGES: readonly {
  readonly kind: AddressKind;
  readonly v4: readonly string[];
  readonly v6: readonly string[];
}[] = [
  {
    // Where clouds hand out credentials: AWS, Azure, GCP, Oracle, Alibaba, and AWS, GCP by IPv6.
    kind: 'metadata',
    v4: ['169.254.169.254/32', '168.63.129.16/32', '192.0.0.192/32', '100.100.100.200/32'],
    v6: ['fd00:ec2::254/128', 'fd20:ce::254/128'],
  },
  { kind: 'loopback', v4: ['127.0.0.0/8'], v6: ['::1/128'] },
  // Linux connects 0.0.0.0 and :: to itself.
  { kind: 'unspecified', v4: ['0.0.0.0/8'], v6: ['::/128'] },
  { kind: 'link-local', v4: ['169.254.0.0/16'], v6: ['fe80::/10'] },
  { kind: 'multicast', v4: ['224.0.0.0/4'], v6: ['ff00::/8'] },
  // Reserved and broadcast; IPv4-compatible, Teredo and 6to4, which carry an IPv4 address inside; and NAT64
  // (RFC 6052) of the IPv4 ranges above.
  {
    kind: 'reserved',
    v4: ['240.0.0.0/4'],
    v6: [
      '::/96',
      '2001::/32',
      '2002::/16',
      '64:ff9b::/104',
      '64:ff9b::7f00:0/104',
      '64:ff9b::a9fe:0/112',
      '64:ff9b::e000:0/99',
      '64:ff9b::a83f:8110/128',
      '64:ff9b::6464:64c8/128',
    ],
  },
];

/** Made when the first address is looked at: a start does without. */
let lists: readonly { readonly kind: AddressKind; readonly list: BlockList }[] | undefined;

function makeLists(): NonNullable<typeof lists> {
  return RANGES.map(({ kind, v4, v6 }) => {
    const list = new BlockList();
    const add = (range: string, family: 'ipv4' | 'ipv6'): void => {
      const [network = '', prefix] = range.split('/');
      list.addSubnet(network, Number(prefix), family);
    };
    for (const range of v4) add(range, 'ipv4');
    for (const range of v6) add(range, 'ipv6');
    return { kind, list };
  });
}

/** The kind of `address` (IPv4, or IPv6 without brackets; a zone is left aside). What is no address is `reserved`. */
export function addressKind(address: string): AddressKind {
  const bare = address.replace(/%.*$/, '');
  const version = isIP(bare);
  if (version === 0) return 'reserved';
  const family = version === 4 ? 'ipv4' : 'ipv6';
  lists ??= makeLists();
  return lists.find(({ list }) => list.check(bare, family))?.kind ?? 'usable';
}
