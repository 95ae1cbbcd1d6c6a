import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dependenciesOf } from '../../../scripts/deb/needs.js';

const needed = (...names: readonly string[]): string =>
  names.map((name) => ` 0x01 (NEEDED)             Shared library: [${name}]\n`).join('');
const versions = (...names: readonly string[]): string =>
  names.map((name) => `  0x0010:   Name: ${name}  Flags: none  Version: 3\n`).join('');

test('a package depends on the newest version that any of its files needs', () => {
  const one = needed('libc.so.6', 'libm.so.6') + versions('GLIBC_2.2.5', 'GLIBC_2.28', 'GLIBC_2.9');
  const other =
    needed('libc.so.6', 'libstdc++.so.6', 'libgcc_s.so.1') + versions('GLIBCXX_3.4.9', 'GLIBCXX_3.4.29', 'GCC_3.0');
  assert.deepEqual(dependenciesOf([one, other]), ['libc6 (>= 2.28)', 'libgcc-s1 (>= 3.0)', 'libstdc++6 (>= 11)']);
});

test('a library or a version that nobody knows is an error, not a guess', () => {
  assert.throws(
    () => dependenciesOf([needed('libuv.so.1')]),
    /no package of Debian is known for the library libuv\.so\.1/,
  );
  assert.throws(
    () => dependenciesOf([needed('libstdc++.so.6') + versions('GLIBCXX_3.4.99')]),
    /GLIBCXX_3\.4\.99 is newer/,
  );
});
