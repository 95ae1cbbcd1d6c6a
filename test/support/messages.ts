/** Messages as tests need them: whole, with what matters to the test said by the caller. */
import type { NewInbound, NewOutbound } from '../../src/datastore/index.js';
import {
  directiveKey,
  messageKey,
  metadataFrom,
  parseDirective,
  parseWorkerName,
  type Directive,
  type InboundRecord,
  type WorkerName,
} from '../../src/message/index.js';

export function directive(text: string): Directive {
  const parsed = parseDirective(text);
  if (parsed === undefined) throw new Error(`${text} is no directive`);
  return parsed;
}

export function workerName(text: string): WorkerName {
  const parsed = parseWorkerName(text);
  if (parsed === undefined) throw new Error(`${text} is no worker's name`);
  return parsed;
}

export function inbound(messageId: string, more: Partial<NewInbound> = {}): NewInbound {
  return {
    messageId,
    responseTo: '',
    directive: directive('echo'),
    metadata: metadataFrom([]),
    priority: 5,
    arrivedAt: Date.now(),
    expiresAt: undefined,
    replyTopic: undefined,
    content: Buffer.from(JSON.stringify(messageId)),
    ...more,
  };
}

export function result(messageId: string, more: Partial<NewOutbound> = {}): NewOutbound {
  return {
    worker: workerName('echo-worker'),
    handlers: [],
    messageId,
    responseTo: '',
    directive: 'echo',
    metadata: metadataFrom([]),
    content: Buffer.from('"result"'),
    arrivedAt: Date.now(),
    ...more,
  };
}

/** A message as the store has it: ready for `echo`, and empty. */
export function inboundRecord(more: Partial<InboundRecord> = {}): InboundRecord {
  return {
    kind: 'inbound',
    key: messageKey(1),
    state: 'ready',
    messageId: 'm',
    responseTo: '',
    directive: directive('echo'),
    directiveKey: directiveKey(directive('echo')),
    metadata: metadataFrom([]),
    content: { kind: 'inline', bytes: Buffer.alloc(0) },
    isFetched: false,
    priority: 5,
    arrivedAt: 0,
    expiresAt: undefined,
    attempts: 0,
    fetches: 0,
    dueAt: 0,
    replyTopic: undefined,
    replayOf: undefined,
    ...more,
  };
}
