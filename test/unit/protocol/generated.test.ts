import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Data, Event, EventNotification, RegistrationRequest } from '../../../protocol/generated/yggdrasil.js';

test('an entry of a map may have the name of an object’s prototype', () => {
  const map = Object.fromEntries([
    ['__proto__', 'p'],
    ['constructor', 'c'],
    ['a', 'b'],
  ]) as Record<string, string>;
  const entries = Object.entries(map);
  const data = { messageId: 'm', metadata: map, content: Buffer.alloc(0), responseTo: '', directive: 'd' };
  assert.deepEqual(Object.entries(Data.decode(Data.encode(data).finish()).metadata), entries);
  const registration = { handler: 'h', pid: 1n, detachedContent: false, features: map };
  const registered = RegistrationRequest.decode(RegistrationRequest.encode(registration).finish());
  assert.deepEqual(Object.entries(registered.features), entries);
  const event = { name: Event.RECEIVED_DISCONNECT, detail: '', metadata: map };
  const notified = EventNotification.decode(EventNotification.encode(event).finish());
  assert.deepEqual(Object.entries(notified.metadata), entries);
  assert.equal(Object.getPrototypeOf(notified.metadata), Object.prototype);
});
