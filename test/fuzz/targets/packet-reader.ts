/** What stands before the mqtt package's parser: the reader of everyday packets, on any bytes, cut anywhere. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { PacketReader } from '../../../src/connection/packet-reader.js';
import { byteExamples, mutated } from '../corpus.js';
import { claim, target, type Target } from '../target.js';
import { LARGEST, pieces, STREAMS } from './connection.js';

interface ReadAhead {
  /** What was announced and what was handed on, in that order: `p` and `a` with an id, and bytes. */
  readonly said: readonly string[];
  readonly messages: number;
  readonly size: number;
}

/** What the reader makes of bytes when nothing it hands on is read at once: then all behind that is handed on too. */
function readAhead(parts: readonly Buffer[], hasProperties: boolean): ReadAhead {
  const said: string[] = [];
  let [messages, size, last] = [0, 0, ''];
  const say = (text: string): void => {
    if (last !== '') said.push(last);
    last = '';
    said.push(text);
  };
  const reader = new PacketReader({
    hasProperties,
    maxMessageSize: LARGEST,
    onPublish: ({ topic, payload, qos, id }) => {
      messages += 1;
      size += payload.length;
      say(`p ${qos} ${id} ${topic} ${payload.toString('hex')}`);
    },
    onPuback: (id, reasonCode) => {
      if (id > 0x7fff) return false;
      size += 4;
      say(`a ${id} ${reasonCode}`);
      return true;
    },
    pass: (bytes) => {
      size += bytes.length;
      last += bytes.toString('hex');
    },
  });
  reader.open();
  for (const part of parts) reader.push(part);
  if (last !== '') said.push(last);
  return { said, messages, size };
}

export const packetReaderTargets: readonly Target[] = [
  target('PacketReader, any bytes', {
    inputs: fc.tuple(mutated(STREAMS), fc.array(fc.nat(400), { maxLength: 6 }), fc.boolean()),
    examples: byteExamples.flatMap((bytes): [Buffer, number[], boolean][] => [
      [bytes, [1, 2, 3], true],
      [bytes, [], false],
    ]),
    share: 2,
    run: ([bytes, where, hasProperties]) => readAhead(pieces(bytes, where), hasProperties),
    judge: (inPieces, [bytes, , hasProperties]) => {
      claim(inPieces.size <= bytes.length && inPieces.messages <= bytes.length / 5);
      const atOnce = readAhead([bytes], hasProperties);
      const byteByByte = bytes.length < 2_000 ? readAhead(pieces(bytes, 'bytes'), hasProperties) : atOnce;
      // A packet that is not whole may be held or handed on, as it was cut: what was announced is the same.
      const announced = ({ said }: ReadAhead): string[] => said.filter((each) => each.includes(' '));
      for (const other of [atOnce, byteByByte]) assert.deepEqual(announced(inPieces), announced(other));
    },
  }),
];
