import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressKind, type AddressKind } from '../../../src/processor/address.js';

const CASES: Record<AddressKind, readonly string[]> = {
  usable: [
    '8.8.8.8',
    '10.1.2.3',
    '172.16.0.1',
    '192.168.1.1',
    '100.64.0.1',
    '2606:4700::1111',
    'fd12::1',
    '::ffff:10.0.0.1',
  ],
  loopback: ['127.0.0.1', '127.255.255.254', '::1', '::ffff:127.0.0.1', '::ffff:7f00:1'],
  'link-local': ['169.254.1.1', 'fe80::1', 'fe80::1%eth0', 'febf::1', '::ffff:169.254.7.7'],
  metadata: ['169.254.169.254', '::ffff:169.254.169.254', 'fd00:ec2::254', '168.63.129.16', '100.100.100.200'],
  unspecified: ['0.0.0.0', '0.1.2.3', '::', '::ffff:0.0.0.0'],
  multicast: ['224.0.0.1', '239.255.255.255', 'ff02::1'],
  reserved: [
    '255.255.255.255',
    '240.0.0.1',
    '::7f00:1',
    '2002:7f00:1::',
    '2001::1',
    '64:ff9b::7f00:1',
    '64:ff9b::a9fe:a9fe',
    '64:ff9b::e000:1',
    '64:ff9b::ffff:ffff',
    'localhost',
    '',
  ],
};

for (const [kind, addresses] of Object.entries(CASES)) {
  test(`these addresses are ${kind}`, () => {
    for (const address of addresses) assert.equal(addressKind(address), kind, address);
  });
}

test('an IPv4 address behind NAT64 that may be connected to stays usable', () => {
  assert.equal(addressKind('64:ff9b::808:808'), 'usable');
});
