/** Lines of an export: what is written is read again to the byte, and what is none says why. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { exportLine, linesOf, readLine } from '../../../src/cli/export-line.js';
import { metadataFrom } from '../../../src/message/index.js';
import { tempDir } from '../../support/temp.js';

describe('a line of an export', () => {
  test('holds any content to the byte, on one line', () => {
    const contents = fc.oneof(
      fc.uint8Array().map((bytes) => Buffer.from(bytes)),
      fc.json().map((text) => Buffer.from(text)),
      fc.constantFrom('', '{ "a" :\n1 }', '12345678901234567890', '"\\u0000\u2028"').map((text) => Buffer.from(text)),
    );
    fc.assert(
      fc.property(contents, fc.string(), fc.dictionary(fc.string(), fc.string()), (content, id, pairs) => {
        const metadata = metadataFrom(Object.entries(pairs));
        const line = exportLine({ direction: 'inbound', message_id: id, directive: 'echo', metadata }, content);
        assert.equal(line.indexOf('\n'), line.length - 1);
        const read = readLine(line.subarray(0, -1));
        assert.equal(read.kind, 'message');
        assert.ok(read.message.content.equals(content));
        assert.deepEqual({ ...read.message.metadata }, { ...metadata });
        if (id !== '') assert.equal(read.message.messageId, id);
      }),
    );
  });

  test('that is no message says why', () => {
    for (const [line, problem] of [
      ['[]', /no JSON object/],
      ['{"directive":"a b"}', /its "directive"/],
      ['{"directive":"a","message_id":1}', /its "message_id"/],
      ['{"directive":"a","metadata":{"k":1}}', /its "metadata"/],
      ['{"directive":"a","metadata":[]}', /its "metadata"/],
      ['{"directive":"a","fetched":true}', /fetched from a URL/],
      ['{"directive":"a","content_problem":"damaged"}', /without its content: "damaged"/],
      ['{"directive":"a","content_base64":"%"}', /no base64/],
      ['{"directive":"a","content_base64":1}', /no base64/],
    ] as const) {
      const read = readLine(Buffer.from(line));
      assert.match(read.kind === 'problem' ? read.problem : read.kind, problem, line);
    }
    assert.equal(readLine(Buffer.from('{"direction":"outbound"}')).kind, 'result');
    const made = readLine(Buffer.from('{"directive":"a"}'));
    assert.match(made.kind === 'message' ? made.message.messageId : '', /^[0-9a-f-]{36}$/);
  });

  test('is found by its number, however a file ends', async () => {
    await using dir = await tempDir();
    const path = join(dir.path, 'lines');
    await writeFile(path, `one\n\nthree\n${'x'.repeat(200_000)}\nlast`);
    const found: [number, number][] = [];
    for await (const { line, number } of linesOf(path)) found.push([number, line.length]);
    assert.deepEqual(found, [
      [1, 3],
      [3, 5],
      [4, 200_000],
      [5, 4],
    ]);
    await assert.rejects(async () => {
      for await (const _ of linesOf(join(dir.path, 'none')));
    }, /cannot be read: ENOENT/);
  });
});
