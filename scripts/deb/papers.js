/**
 * The papers of the package for Debian: its control file, changelog and copyright. Pure: values in, text out.
 *
 * Who packs it stands in DEBFULLNAME and DEBEMAIL, as with Debian's own tools.
 */

export const PACKAGE = 'yggdrasil-agent';

/** A version of npm as Debian orders them, with the revision of the package: 1.0.0-rc.1 → 1.0.0~rc.1-1. */
export function debianVersion(version, revision = 1) {
  if (!/^\d+\.\d+\.\d+(?:-[\w.]+)?$/u.test(version)) throw new Error(`not a version such as 1.2.3: ${version}`);
  return `${version.replace('-', '~')}-${revision}`;
}

export function maintainer({ DEBFULLNAME, DEBEMAIL } = {}) {
  return `${DEBFULLNAME ?? 'Yggdrasil agent packagers'} <${DEBEMAIL ?? 'packagers@yggdrasil-agent.example.org'}>`;
}

export function controlFile({ version, arch, size, depends, packager }) {
  const fields = {
    Package: PACKAGE,
    Version: version,
    Architecture: arch,
    Maintainer: packager,
    'Installed-Size': size,
    Depends: [...depends, 'passwd', 'systemd | systemd-standalone-sysusers | systemd-sysusers'].join(', '),
    Suggests: 'mosquitto-clients, python3-grpcio, python3-protobuf',
    // The user, its home and the alias of the unit have the names of that package, a mesh network.
    Conflicts: 'yggdrasil',
    Section: 'net',
    Priority: 'optional',
    Description: DESCRIPTION,
  };
  return Object.entries(fields)
    .map(([name, value]) => `${name}: ${value}\n`)
    .join('');
}

const DESCRIPTION = `MQTT agent that hands commands to local workers
 The agent, yggd, holds one connection from this machine to an MQTT broker, and
 turns the broker's messages into work for local workers: programs in any
 language, spoken to over gRPC on Unix sockets. What it has acknowledged is in
 a journal on disk until a worker has it. The command ygg shows what it does,
 and why something was not answered.
 .
 The package brings its own Node.js below /usr/lib/yggdrasil.`;

export function changelog({ version, packager, date }) {
  return `${PACKAGE} (${version}) unstable; urgency=medium

  * Version ${version.replace(/-\d+$/u, '')}; what has changed stands in changelog.gz.

 -- ${packager}  ${date.toUTCString().replace('GMT', '+0000')}
`;
}

/** DEP 5. `carried`: [{ name, version, licence, text }] of what is inside the programs or beside them. */
export function copyright({ license, carried }) {
  const own =
    license === undefined
      ? {
          name: 'not-chosen',
          text: `The owner of Yggdrasil agent has not chosen a licence yet: its package.json names
none. Until the owner does, nobody is given leave to copy, change or pass on
this work, or this package, beyond what the law allows anyway. Ask the owner.`,
        }
      : { name: license, text: `As package.json of the source names it: ${license}.` };
  return [
    'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/',
    'Upstream-Name: yggdrasil-agent',
    'Comment: The programs in /usr/lib/yggdrasil/dist and /usr/libexec/yggdrasil are\n bundles: each package named below is inside one of them, or lies beside them.',
    '',
    paragraph({ Files: '*', Copyright: 'the owner of Yggdrasil agent', License: `${own.name}\n${indented(own.text)}` }),
    ...carried.map(({ name, version, licence, text, where }) =>
      paragraph({
        Files: where ?? '/usr/lib/yggdrasil/dist/*',
        Copyright: holders(text, name),
        License: `${licence}\n${indented(text)}`,
        Comment: `${name} ${version}`,
      }),
    ),
  ].join('\n');
}

function paragraph(fields) {
  return `${Object.entries(fields)
    .map(([name, value]) => `${name}: ${value}`)
    .join('\n')}\n`;
}

function indented(text) {
  return text
    .trim()
    .split(/\r?\n/u)
    .map((line) => (line.trim() === '' ? ' .' : ` ${line.trimEnd()}`))
    .join('\n');
}

/** The lines that say whose it is. */
function holders(text, name) {
  const lines = text
    .split(/\r?\n/u)
    .map((line) => line.trim().replace(/^copyright:?\s*/iu, ''))
    .filter((line, at) => /^\s*copyright/iu.test(text.split(/\r?\n/u)[at]) && /\d{4}|\(c\)|©/iu.test(line));
  return lines.length === 0 ? `the authors of ${name}` : lines.slice(0, 8).join('\n ');
}
