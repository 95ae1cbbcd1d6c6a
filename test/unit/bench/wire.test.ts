/** The packets that the driver writes and reads by hand. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as wire from '../../../bench/wire.js';

const SIZES = [0, 1, 100, 118, 119, 120, 121, 16_374, 16_375, 16_377, 100_000];

function published(size: number): Buffer {
  return Buffer.concat([wire.publishHead('a/b', 513, size), Buffer.alloc(size, 0x61)]);
}

test('packets are written as the standard has them', () => {
  const hex = (bytes: Buffer): string => bytes.toString('hex');
  assert.equal(hex(wire.connectPacket('ab')), '100e00044d5154540402000000026162');
  assert.equal(hex(wire.subscribePacket(1, ['a/b', 'c'])), '820c00010003612f62010001' + '6301');
  assert.equal(hex(wire.publishHead('a/b', 513, 5)), '320c0003612f620201');
  // 121 bytes and 7 before them take two bytes of length.
  assert.equal(hex(wire.publishHead('a/b', 513, 121)), '3280010003612f620201');
  assert.equal(hex(wire.pubackPacket(513)), '40020201');
});

test('packets are read however the stream is cut', () => {
  const atMostOnce = Buffer.from('300600' + '03612f6278', 'hex');
  const stream = Buffer.concat([...SIZES.map(published), wire.pubackPacket(7), atMostOnce]);
  for (const size of [1, 7, 1_000, 65_536, stream.length]) {
    const reader = new wire.PacketReader();
    const packets: wire.Packet[] = [];
    for (let at = 0; at < stream.length; at += size) {
      packets.push(...reader.push(stream.subarray(at, at + size)));
    }
    assert.deepEqual(packets.map(wire.kindOf), [...SIZES.map(() => wire.PUBLISH), wire.PUBACK, wire.PUBLISH]);
    const read = packets.filter((packet) => wire.kindOf(packet) === wire.PUBLISH).map(wire.readPublication);
    assert.deepEqual(
      read.map(({ payload }) => payload.length),
      [...SIZES, 1],
    );
    assert.ok(read.every(({ topic, packetId, qos }) => topic === 'a/b' && packetId === (qos === 0 ? 0 : 513)));
  }
});
