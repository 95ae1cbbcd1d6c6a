import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { UnderWay } from '../../../src/datastore/under-way.js';

describe('what is under way', () => {
  it('is found until it is through, however much came and went', () => {
    const items = new UnderWay<number>();
    const model = new Map<string, number>();
    items.set('stays', -1);
    model.set('stays', -1);
    for (let at = 0; at < 20_000; at++) {
      items.set(`id ${at}`, at);
      model.set(`id ${at}`, at);
      const gone = `id ${at - (at % 300)}`;
      items.delete(gone);
      items.delete(`id ${at - 300}`);
      model.delete(gone);
      model.delete(`id ${at - 300}`);
    }
    for (let at = 0; at < 20_000; at++) assert.equal(items.get(`id ${at}`), model.get(`id ${at}`));
    assert.equal(items.get('stays'), -1);
    assert.equal(items.has('stays'), true);
    items.delete('stays');
    assert.equal(items.has('stays'), false);
  });
});
