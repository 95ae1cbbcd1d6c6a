/** Addresses of buses, as the specification and hostile environments write them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '../../../src/dbus/address.js';
import { systemBusAddress } from '../../../src/dbus/index.js';

test('files and abstract names, several in turn, with escapes', () => {
  assert.deepEqual(parseAddress('unix:path=/run/a%20b%c3%bc,guid=00ff;unix:guid=1,abstract=/tmp/dbus-%2c'), [
    { kind: 'path', path: '/run/a bü' },
    { kind: 'abstract', name: '/tmp/dbus-,' },
  ]);
});

test('what names no socket of this machine is left out', () => {
  for (const address of [
    ...[
      '',
      ';',
      'unix:',
      'unix:path',
      'unix:path=',
      'unix:path=relative',
      'unix:path=/a%00b',
      'unix:abstract=',
      'unix:tmpdir=/tmp',
    ],
    ...['tcp:host=127.0.0.1,port=1', 'unixexec:path=/bin/sh,arg1=-c', 'launchd:env=X', 'autolaunch:', 'UNIX:path=/a'],
  ])
    assert.deepEqual(parseAddress(address), [], address);
});

test('the environment names the system bus, or it is where it always is', () => {
  assert.equal(systemBusAddress({ DBUS_SYSTEM_BUS_ADDRESS: 'unix:path=/x' }), 'unix:path=/x');
  assert.match(systemBusAddress({ DBUS_SYSTEM_BUS_ADDRESS: '' }), /^unix:path=\/run\/dbus\/system_bus_socket/);
});
