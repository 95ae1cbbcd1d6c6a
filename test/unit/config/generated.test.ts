import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { generatedFiles } from '../../../scripts/generate-docs.js';

test('the files made from the code are up to date', async () => {
  for (const [path, text] of await generatedFiles()) {
    const file = join(import.meta.dirname, '../../..', path);
    assert.equal(await readFile(file, 'utf8'), text, `${path}: run node --import tsx scripts/generate-docs.ts`);
  }
});
