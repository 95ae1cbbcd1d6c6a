/** Values written one behind the other into blocks that they share. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ByteBlocks } from '../../../src/datastore/byte-blocks.js';

const written = (blocks: ByteBlocks, write: (to: ByteBlocks) => void): string => {
  blocks.begin(0);
  write(blocks);
  return blocks.end(undefined).toString();
};

describe('values in blocks', () => {
  it('hold numbers as JSON has them', () => {
    const blocks = new ByteBlocks();
    const numbers = [0, -0, 7, 10, 99, 9_999_999, 10_000_000, 10_000_001, 1_764_208_000_000, Number.MAX_SAFE_INTEGER];
    for (const number of [...numbers, -5, 0.5, 1e21, Infinity, -Infinity, Number.NaN])
      assert.equal(
        written(blocks, (to) => to.number(number)),
        JSON.stringify(number),
      );
  });

  it('hold any text as JSON has it between its quotes', () => {
    const blocks = new ByteBlocks(16);
    for (const text of ['', 'plain ~ text', 'a "quote" and \\', 'line\n', '\x7f', 'ä€😀', '\ud800', 'x'.repeat(100)])
      assert.equal(
        `"${written(blocks, (to) => to.quoted(text))}"`,
        Buffer.from(JSON.stringify(text)).toString(),
        JSON.stringify(text),
      );
  });

  it('hold bytes and the text behind them, wherever a block ends', () => {
    const name = Buffer.from(',"name":"');
    for (let size = 1; size < 64; size++) {
      const blocks = new ByteBlocks(size);
      for (const text of ['', 'plain', 'a "quote"', 'ä€😀', 'x'.repeat(40)]) {
        const value = written(blocks, (to) => {
          to.bytes(name);
          to.text(name, text);
          to.bytes(name);
        });
        assert.equal(value, `,"name":","name":${JSON.stringify(text)},"name":"`, `${size} ${text}`);
      }
    }
  });

  it('stay as they are when others are written, however many and however long they are', () => {
    const blocks = new ByteBlocks(64);
    const values: [Buffer, string][] = [];
    for (let n = 0; n < 400; n++) {
      blocks.begin(2);
      const text = String(n).repeat(n % 50);
      blocks.ascii(text);
      const rest = Buffer.alloc((n * 37) % 9000, n);
      const value = blocks.end(rest);
      value.writeUInt16LE(n, 0);
      values.push([value, text + rest.toString('latin1')]);
    }
    for (const [n, [value, text]] of values.entries()) {
      assert.equal(value.readUInt16LE(0), n);
      assert.equal(value.toString('latin1', 2), text);
    }
  });

  it('leave nothing behind when they are begun and not ended', () => {
    const blocks = new ByteBlocks();
    blocks.begin(4);
    blocks.ascii('never');
    assert.equal(
      written(blocks, (to) => to.ascii('whole')),
      'whole',
    );
  });

  it('share a block where they are short', () => {
    const blocks = new ByteBlocks();
    const [one, two] = ['one', 'two'].map((text) => {
      blocks.begin(0);
      blocks.ascii(text);
      return blocks.end(undefined);
    });
    blocks.begin(0);
    const long = blocks.end(Buffer.alloc(5000));
    assert.equal(one?.buffer, two?.buffer);
    assert.equal(long.buffer.byteLength, 5000, 'a long one takes what it needs');
  });
});
