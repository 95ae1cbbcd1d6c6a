import assert from 'node:assert/strict';
import { test } from 'node:test';
import { listenAddress } from '../../../src/config/listen-address.js';

const kind = listenAddress();

test('a port is one of this machine alone; any other address must be named', () => {
  const read: readonly (readonly [unknown, string])[] = [
    [9464, '127.0.0.1:9464'],
    ['9464', '127.0.0.1:9464'],
    [0, '127.0.0.1:0'],
    [' localhost:1 ', '127.0.0.1:1'],
    ['0.0.0.0:9464', '0.0.0.0:9464'],
    ['[::1]:9464', '[::1]:9464'],
    ['[::]:65535', '[::]:65535'],
    ['unix:/run/yggdrasil/metrics.sock', 'unix:/run/yggdrasil/metrics.sock'],
  ];
  for (const [value, text] of read) {
    const checked = kind.check(value);
    assert.equal(checked.kind === 'ok' ? kind.toToml(checked.value) : 'refused', JSON.stringify(text), String(value));
  }
});

test('what is no address is refused', () => {
  for (const value of [
    '',
    'nowhere',
    -1,
    1.5,
    65_536,
    '99999999',
    'example.com:80',
    '::1:80',
    '[127.0.0.1]:80',
    '127.0.0.1',
    '127.1:80',
    ':80',
    'unix:',
    'unix:/',
    'unix:run/x',
    'unix:/a\0b',
    `unix:/${'x'.repeat(107)}`,
    'UNIX:/x',
    true,
    ['9464'],
    {},
  ])
    assert.equal(kind.check(value).kind, 'refused', JSON.stringify(value));
  assert.equal(kind.check(`unix:/${'x'.repeat(106)}`).kind, 'ok');
});
