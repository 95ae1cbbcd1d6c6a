/** Messages of this machine: dispatched, answered, traced. */
import { status } from '@grpc/grpc-js';
import type {
  AdminServer,
  AnswersRequest,
  DispatchEvent,
  Dispatched,
  DispatchRequest,
} from '../../protocol/generated/admin.js';
import { errorText } from '../errors.js';
import type { Log } from '../log/log.js';
import { contentSize, metadataFrom, quoted, type OutboundRecord } from '../message/index.js';
import { answering, Refusal, streaming, type Outlet } from './answering.js';
import { keyFrom, whole } from './message-view.js';
import type { LocalDispatch, MessageDesk } from './message-ports.js';

type Calls = 'dispatch' | 'collectAnswers' | 'acknowledgeAnswer' | 'traceMessage';

export function messageCalls(desk: MessageDesk, log: Log): Pick<AdminServer, Calls> {
  return {
    dispatch: streaming<DispatchRequest, DispatchEvent>(log, async (request, outlet) => {
      const { messageId, directive, content, wait } = request;
      // Made anew: what a map of protobuf inherits is no metadata.
      const metadata = metadataFrom(Object.entries(request.metadata));
      const outcome = await desk.dispatch({ messageId, directive, metadata, content });
      await outlet.write({ dispatched: dispatchedView(messageId, outcome) });
      if (wait) await answersTo(desk, messageId, true, outlet);
    }),
    collectAnswers: streaming<AnswersRequest, DispatchEvent>(log, ({ messageId, wait }, outlet) =>
      answersTo(desk, messageId, wait, outlet),
    ),
    acknowledgeAnswer: answering(log, async ({ key }) => {
      if (!(await desk.acknowledge(keyFrom(key))))
        throw new Refusal(status.NOT_FOUND, `no answer waits here under the key ${key}`);
      return {};
    }),
    traceMessage: answering(log, async ({ id }) => {
      const messages = await desk.trace(id);
      if (messages.length > 0) return { messages: [...messages] };
      throw new Refusal(status.NOT_FOUND, `nothing is known of a message ${quoted(id)}: it never was, or is forgotten`);
    }),
  };
}

function dispatchedView(messageId: string, outcome: LocalDispatch): Dispatched {
  if (outcome.kind === 'refused') throw new Refusal(status.FAILED_PRECONDITION, outcome.reason);
  const { kind } = outcome;
  return kind === 'accepted'
    ? { outcome: kind, key: BigInt(outcome.key), messageId, isHandled: outcome.isHandled }
    : { outcome: kind, key: 0n, messageId, isHandled: true };
}

async function answersTo(
  desk: MessageDesk,
  messageId: string,
  isWaiting: boolean,
  { gone, write }: Outlet<DispatchEvent>,
): Promise<void> {
  for await (const heard of desk.answers(messageId, isWaiting, gone)) {
    if (heard.kind === 'end') await write({ end: heard.end });
    else await writeAnswer(desk, heard.record, write);
  }
}

async function writeAnswer(
  desk: MessageDesk,
  record: OutboundRecord,
  write: Outlet<DispatchEvent>['write'],
): Promise<void> {
  const { key, messageId, responseTo, directive, metadata, content, arrivedAt, worker = '' } = record;
  await write({
    answer: {
      ...{ key: BigInt(key), messageId, responseTo, directive, metadata, worker },
      contentSize: BigInt(contentSize(content)),
      arrivedAt: whole(arrivedAt),
    },
  });
  try {
    for await (const chunk of desk.chunks(content)) await write({ chunk });
  } catch (error) {
    throw new Refusal(status.DATA_LOSS, `the answer ${key} cannot be read: ${errorText(error)}`);
  }
}
