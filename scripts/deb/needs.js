/**
 * What programs and libraries need of the system, read off the files themselves, so that the package depends on just
 * that: no library is guessed, and one that nobody knows is an error. readelf reads any architecture's files.
 */
import { run } from './carried.js';

/** Library → the package of Debian that has it; by which of its symbols' versions, the version. */
const LIBRARIES = [
  { names: /^(?:ld-linux.*|lib(?:c|m|dl|pthread|rt|resolv|util))\.so\.\d$/u, package: 'libc6', symbols: 'GLIBC' },
  { names: /^libstdc\+\+\.so\.6$/u, package: 'libstdc++6', symbols: 'GLIBCXX' },
  { names: /^libgcc_s\.so\.1$/u, package: 'libgcc-s1', symbols: 'GCC' },
  { names: /^libatomic\.so\.1$/u, package: 'libatomic1', symbols: 'LIBATOMIC' },
];

/** Last number of GLIBCXX_3.4.n → the release of GCC that brought it, as Debian counts. */
const GLIBCXX = { 21: '5.2', 22: '6', 23: '7', 24: '7', 25: '8', 26: '9', 27: '9', 28: '9.3', 29: '11', 30: '12' };
const NEWER_GLIBCXX = { 31: '13.1', 32: '13.2', 33: '14' };

/** Whether it is an ELF file. */
export function isElf(content) {
  return content.subarray(0, 4).toString('latin1') === '\x7fELF';
}

/** `Depends` for these files: ['libc6 (>= 2.34)', …]. */
export function libraryDependencies(files) {
  return dependenciesOf(files.map((file) => run('readelf', ['--wide', '--dynamic', '--version-info', file])));
}

/** The same out of what readelf printed. Throws for a library or a version that is not known here. */
export function dependenciesOf(texts) {
  const text = texts.join('\n');
  const libraries = new Set([...text.matchAll(/\(NEEDED\).*\[(.+?)\]/gu)].map(([, name]) => name));
  const versions = [...text.matchAll(/Name: ([A-Z]+)_([\d.]+) /gu)].map(([, symbols, version]) => [symbols, version]);
  const found = new Map();
  for (const name of libraries) {
    const library = LIBRARIES.find(({ names }) => names.test(name));
    if (library === undefined) throw new Error(`no package of Debian is known for the library ${name}`);
    const wanted = versions.filter(([symbols]) => symbols === library.symbols).map(([, version]) => version);
    const newest = wanted.sort(byVersion).at(-1);
    found.set(library.package, newest === undefined ? library.package : dependency(library.package, newest));
  }
  return [...found.values()].sort();
}

function dependency(name, version) {
  if (name === 'libatomic1') return name;
  if (name !== 'libstdc++6') return `${name} (>= ${version})`;
  const last = /^3\.4\.(\d+)$/u.exec(version)?.[1] ?? '21';
  const release = { ...GLIBCXX, ...NEWER_GLIBCXX }[Math.max(Number(last), 21)];
  if (release === undefined) throw new Error(`GLIBCXX_${version} is newer than scripts/deb/needs.js`);
  return `${name} (>= ${release})`;
}

function byVersion(one, other) {
  const [a, b] = [one, other].map((version) => version.split('.').map(Number));
  const at = a.findIndex((part, index) => part !== (b[index] ?? 0));
  return at < 0 ? a.length - b.length : a[at] - (b[at] ?? 0);
}
