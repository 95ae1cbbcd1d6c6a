/** A live message has the keys under which the journal has it, and they go with it. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { liveDatabase } from '../../../src/datastore/live-collection.js';
import { LiveMessages } from '../../../src/datastore/live-messages.js';
import { messageKey } from '../../../src/message/index.js';
import { inboundRecord } from '../../support/messages.js';

describe('live messages', () => {
  const keys = { recordKey: 'i/echo/4/00000000007', idKey: 'i/echo/seven' };
  const record = inboundRecord({ key: messageKey(7) });

  it('have their keys as long as they are live, whatever takes their place', () => {
    const live = new LiveMessages(liveDatabase());
    live.come(record, keys);
    live.put({ ...record, attempts: 1 });
    assert.equal(live.keysOf(record.key), keys);
    live.remove(record.key);
    assert.equal(live.keysOf(record.key), undefined);
    assert.equal(live.size, 0);
  });

  it('have none when they were read from the journal, nor from an earlier life', () => {
    const live = new LiveMessages(liveDatabase());
    live.come(record, keys);
    live.clear();
    live.put(record);
    assert.equal(live.keysOf(record.key), undefined);
  });
});
