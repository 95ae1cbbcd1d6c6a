/** Messages as tests need them: whole, with what matters to the test said by the caller. */
import type { NewInbound, NewOutbound } from '../../src/datastore/index.js';
import {
  metadataFrom,
  parseDirective,
  parseWorkerName,
  type Directive,
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
