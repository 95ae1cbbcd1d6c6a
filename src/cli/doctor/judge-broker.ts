/** What is wrong on the way to a broker: its name, its port, its certificates. */
import type { CertificateLook } from '../../connection/index.js';
import { day, within } from './words.js';
import { checkOf, type Finding } from './finding.js';
import type { BrokerLook, DoorLook } from './broker-look.js';

export function judgeWay(look: BrokerLook, now: number): readonly Finding[] {
  return [...judgeName(look), ...judgeDoors(look), ...judgeTls(look, now)];
}

const SLOW_NAME_MS = 1_000;

function judgeName({ address, names, proxy }: BrokerLook): readonly Finding[] {
  const name = checkOf('broker.name', address.text);
  switch (names.kind) {
    case 'none':
      return proxy === undefined ? [] : [name.skipped(`the proxy ${proxy} looks it up`)];
    case 'late':
      return [
        name.failed(
          `no name server answered for ${address.host} in ${within(names.took)}`,
          'check /etc/resolv.conf, and that the name servers in it can be reached',
        ),
      ];
    case 'failed':
      return [
        name.failed(
          `${address.host} has no address here (${names.code})`,
          'check the name in `broker`, and this machine’s DNS: `getent ahosts` with that name',
        ),
      ];
    case 'found': {
      const seen = `${names.addresses.join(', ')} in ${within(names.took)}`;
      if (names.took <= SLOW_NAME_MS) return [name.ok(seen)];
      return [
        name.warning(`${seen}: slow`, 'check the order of the name servers in /etc/resolv.conf: the first may be dead'),
      ];
    }
  }
}

const REASONS: Readonly<Partial<Record<string, readonly [seen: string, todo: string]>>> = {
  ECONNREFUSED: ['nobody listens there', 'check that the broker runs, and listens on this port and this address'],
  ETIMEDOUT: ['no answer', 'check the address, and each firewall on the way'],
  EHOSTUNREACH: ['there is no way to it', 'check the routes of this machine: `ip route get` with that address'],
  ENETUNREACH: ['there is no way to its network', 'check the routes of this machine: `ip route get` with that address'],
  EACCES: ['this machine forbids it', 'check the firewall of this machine'],
};

function judgeDoors({ doors, proxy, address }: BrokerLook): readonly Finding[] {
  if (doors.length === 0) return [];
  const tcp = checkOf(proxy === undefined ? 'broker.tcp' : 'broker.proxy', address.text);
  const open = doors.filter(({ problem }) => problem === undefined);
  const shut = doors.filter(({ problem }) => problem !== undefined);
  const by = proxy === undefined ? '' : ` through ${proxy}`;
  const good = open.map((door) => `${door.address}${by} in ${within(door.took)}`).join(', ');
  if (shut.length === 0) return [tcp.ok(good)];
  const bad = shut.map((door) => `${door.address}${by}: ${reason(door)[0]}`).join('; ');
  const todo = shut[0] === undefined ? '' : reason(shut[0])[1];
  if (open.length === 0) return [tcp.failed(bad, todo)];
  return [tcp.warning(`${good}; but ${bad}`, `each connection may lose time there first: ${todo}`)];
}

function reason({ problem = '' }: DoorLook): readonly [string, string] {
  return (
    REASONS[problem] ?? [
      problem.replace(/\.? (Check .*)$/, ''),
      /Check (.*?)\.?$/.exec(problem)?.[0] ?? 'check the address and the network',
    ]
  );
}

const UNKNOWN_AUTHORITY =
  'add the certificate of the authority that issued it to `ca-root`, or let the broker send the whole chain';

/** OpenSSL's verdicts that have a remedy of their own. */
const DISTRUST: Readonly<Partial<Record<string, readonly [seen: string, todo: string]>>> = {
  CERT_HAS_EXPIRED: ['a certificate has expired', 'renew the broker’s certificate, or check this machine’s clock'],
  CERT_NOT_YET_VALID: ['a certificate is not valid yet', 'check this machine’s clock'],
  CERT_REVOKED: ['a certificate was revoked', 'give the broker a new one'],
  DEPTH_ZERO_SELF_SIGNED_CERT: ['it is signed by itself', 'add this very certificate to `ca-root`, if you trust it'],
  SELF_SIGNED_CERT_IN_CHAIN: ['its authority is not known here', UNKNOWN_AUTHORITY],
  UNABLE_TO_GET_ISSUER_CERT: ['its authority is not known here', UNKNOWN_AUTHORITY],
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: ['its authority is not known here', UNKNOWN_AUTHORITY],
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: ['its authority is not known here', UNKNOWN_AUTHORITY],
  CERT_SIGNATURE_FAILURE: ['an authority of that name is known, but with another key', UNKNOWN_AUTHORITY],
};

function judgeTls({ address, tls }: BrokerLook, now: number): readonly Finding[] {
  if (!address.isTls) return isLoopback(address.host) ? [] : [plain(address.text)];
  if (tls === undefined) return [];
  const check = checkOf('broker.tls', address.text);
  if (tls.kind === 'failed') return [check.failed(...apart(tls.failure.reason))];
  const findings: Finding[] = [];
  const [own] = tls.chain;
  const told = own === undefined ? '' : certificateText(own);
  if (tls.isOtherName)
    findings.push(
      check.failed(
        `the certificate stands for other names than ${address.host}: ${own?.names || own?.subject || 'none'}`,
        'use one of these names in `broker`, or issue the broker’s certificate for this one',
      ),
    );
  if (tls.distrust !== undefined) {
    const [seen, todo] = DISTRUST[tls.distrust] ?? [`it is not trusted (${tls.distrust})`, UNKNOWN_AUTHORITY];
    findings.push(check.failed(`${seen}: ${told}`, todo));
  }
  if (findings.length > 0) return findings;
  findings.push(check.ok(`${tls.protocol} in ${within(tls.took)}; ${told}`));
  return [...findings, ...tls.chain.flatMap((certificate) => judgeEnd(address.text, certificate, now))];
}

function plain(about: string): Finding {
  return checkOf('broker.tls', about).warning(
    'no TLS: whoever is on the way can read and write all messages',
    'use mqtts:// and a certificate for the broker',
  );
}

function judgeEnd(about: string, certificate: CertificateLook, now: number): readonly Finding[] {
  if (!isSoon(certificate, now)) return [];
  const { subject, validTo } = certificate;
  return [
    checkOf('broker.certificate', about).warning(
      `the certificate of ${subject} ends on ${day(validTo)}`,
      'renew it before: from then on no agent connects',
    ),
  ];
}

const SOON_MS = 14 * 86_400_000;

/** Two weeks before the end; of one that lives shorter, in the last third of its life. */
export function isSoon({ validFrom, validTo }: CertificateLook, now: number): boolean {
  const left = validTo - now;
  return left < Math.min(SOON_MS, (validTo - validFrom) / 3);
}

export function certificateText({ subject, issuer, validTo }: CertificateLook): string {
  return `${subject}, issued by ${issuer === subject ? 'itself' : issuer}, until ${day(validTo)}`;
}

/** Sentences of the connection say what happened and then what to do, from `Check`, `Set`, `Add` … on. */
export function apart(text: string): readonly [seen: string, todo: string] {
  const at = text.search(/(?<=[.;] )(Check|Set|Add|Renew|Use|Update|Allow|Give|Change|Ask|Make|Raise|Nothing)\b/);
  if (at < 0) return [text.replace(/\.$/, ''), ''];
  return [text.slice(0, at).trim().replace(/[.;]$/, ''), text.slice(at).replace(/\.$/, '')];
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\./.test(host);
}
