/**
 * What the worker SDK promises whichever transport carries its messages: one suite, run against an agent of each kind.
 * What only one of them has (a socket of the worker's own, frames, bodies) is tested beside it.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Event } from '../../protocol/generated/yggdrasil.js';
import { replyMessageId } from '../../src/message/ids.js';
import {
  type Handler,
  jsonReply,
  Refusal,
  type ServeOptions,
  type TransportChoice,
  type WorkerEvent,
} from '../../src/worker/index.js';
import { type ContractAgent, GivenBack, type Kind } from '../support/contract-agent.js';
import { assertNothingMore, heldAtRest } from '../support/leaks.js';
import { deferred, sdkRig, type SdkRig } from '../support/rig.js';

const ID = '9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d';

/**
 * Runs the suite for a worker that uses this transport, against agents that `startAgent` makes. What needs an agent to do
 * as it is told (to take no reply, to die, to say why a message came back) is left out with a real one.
 */
export function workerContract(
  name: string,
  transport: TransportChoice,
  startAgent: (dir: string) => Promise<ContractAgent>,
  { isReal = false }: { isReal?: boolean } = {},
): void {
  const testOfFake = (title: string, run: () => Promise<void>): void => {
    if (!isReal) test(title, run);
  };
  const rig = async (handler: Handler, options: Partial<ServeOptions> = {}): Promise<SdkRig<ContractAgent>> => {
    const made = await sdkRig(startAgent, handler, { transport, ...options });
    await made.log.line('worker.registered');
    return made;
  };
  const givenBack =
    (kind: Kind, text: RegExp) =>
    (error: unknown): true => {
      assert.ok(error instanceof GivenBack, String(error));
      assert.equal(error.kind, kind);
      assert.match(error.message, text);
      return true;
    };

  describe(`replies, ${name}`, () => {
    test('a handler gets the bytes and the reply goes back byte for byte with derived ids', async () => {
      const content = Buffer.from('{ "b":12345678901234567890, "a": 1.0 }');
      const handler: Handler = (message) => ({ content: message.content, metadata: message.metadata });
      await using r = await rig(handler, { handler: 'e-cho' });
      const metadata = Object.fromEntries([
        ['a', 'ä'],
        ['', ''],
        ['x'.repeat(1_000), '\u2028'],
      ]);
      await r.agent.deliver({ content, metadata, directive: 'e_cho' });
      assert.deepEqual(r.agent.replies, [
        { messageId: replyMessageId(ID, 0), directive: 'e_cho', responseTo: ID, metadata, content },
      ]);
    });

    test('content of 5 MB passes both ways where the worker takes it', async () => {
      await using r = await rig((message) => ({ content: message.content }), { maxMessageSize: 8_000_000 });
      const content = Buffer.alloc(5_000_000, 'abc');
      await r.agent.deliver({ content });
      assert.ok(r.agent.replies[0]?.content.equals(content));
    });

    test('contents around the size at which bodies begin pass, also none at all', async () => {
      await using r = await rig((message) => ({ content: message.content }));
      const sizes = [0, 1, 65_535, 65_536, 65_537, 262_144];
      await Promise.all(
        sizes.map((size) => r.agent.deliver({ messageId: `m${size}`, content: Buffer.alloc(size, 'x') })),
      );
      const got = r.agent.replies.map(({ responseTo, content }) => `${responseTo} ${content.length}`);
      assert.deepEqual(got.sort(), sizes.map((size) => `m${size} ${size}`).sort());
    });

    test('forty replies of 100 KB to one message pass', async () => {
      const content = Buffer.alloc(100_000, 'r');
      await using r = await rig(() => Array.from({ length: 40 }, () => ({ content })));
      await r.agent.deliver({});
      assert.equal(r.agent.replies.length, 40);
      assert.ok(r.agent.replies.every((reply) => reply.content.equals(content)));
    });

    test('replies keep their order and number, whether sent or returned', async () => {
      await using r = await rig((_message, context) => {
        void context.send({ content: '0', directive: 'https://example.com/r' });
        void context.send(jsonReply(1));
        assert.equal(context.replyIndex, 2);
        return [jsonReply(2), { content: '3', messageId: 'own' }];
      });
      await r.agent.deliver({});
      assert.deepEqual(
        r.agent.replies.map((reply) => [reply.content.toString(), reply.messageId, reply.directive]),
        [
          ['0', replyMessageId(ID, 0), 'https://example.com/r'],
          ['1', replyMessageId(ID, 1), 'echo'],
          ['2', replyMessageId(ID, 2), 'echo'],
          ['3', 'own', 'echo'],
        ],
      );
    });

    test('a reply that is sent resolves once the agent has it, while the handler goes on', async () => {
      const release = deferred();
      await using r = await rig(async (_message, { send }) => {
        await send(jsonReply(0));
        await release.promise;
        return jsonReply(1);
      });
      const receipt = r.agent.deliver({});
      while (r.agent.replies.length < 1) await turn();
      release.resolve();
      await receipt;
      assert.deepEqual(
        r.agent.replies.map(({ content }) => content.toString()),
        ['0', '1'],
      );
    });

    testOfFake('a reply that the agent has no room for keeps its place before those that follow', async () => {
      let tries = 0;
      await using r = await rig(async (_message, context) => {
        void context.send(jsonReply('early'));
        await turn();
        void context.send(jsonReply('second'));
        return jsonReply('last');
      });
      r.agent.judge = ({ content }) =>
        content.toString() === '"early"' && ++tries < 3 ? { isPassing: true, reason: 'full' } : 'take';
      await r.agent.deliver({});
      assert.deepEqual(
        r.agent.replies.map(({ content }) => content.toString()),
        ['"early"', '"second"', '"last"'],
      );
    });

    testOfFake('the receipt comes only after the agent accepted the reply', async () => {
      const gate = deferred();
      let isReceived = false;
      await using r = await rig(() => jsonReply(1));
      r.agent.judge = () => gate.promise.then(() => 'take');
      const receipt = r.agent.deliver({}).then(() => (isReceived = true));
      await r.agent.arrived();
      assert.equal(isReceived, false);
      gate.resolve();
      await receipt;
      assert.equal(r.agent.replies.length, 1);
    });

    testOfFake('a reply is handed over again while the agent has no room', async () => {
      let tries = 0;
      await using r = await rig(() => jsonReply(1));
      r.agent.judge = () => (++tries < 3 ? { isPassing: true, reason: 'spool is full' } : 'take');
      await r.agent.deliver({});
      assert.equal(tries, 3);
      assert.equal((await r.log.line('worker.reply_delayed')).fields['reason'], 'spool is full');
    });

    testOfFake('a reply that the agent will never take ends the message as invalid', async () => {
      await using r = await rig(() => jsonReply(1));
      r.agent.judge = () => ({ isPassing: false, reason: 'too large' });
      await assert.rejects(r.agent.deliver({}), givenBack('invalid', /does not take reply .* too large/));
      assert.equal(r.agent.replies.length, 0);
    });

    testOfFake('a handler learns that the reply it sent will never be taken', async () => {
      const learnt: unknown[] = [];
      await using r = await rig(async (_message, { send }) => {
        await send(jsonReply(1)).catch((error: unknown) => learnt.push(error));
        return undefined;
      });
      r.agent.judge = () => ({ isPassing: false, reason: 'not this' });
      await assert.rejects(r.agent.deliver({}), givenBack('invalid', /not this/));
      assert.ok(learnt[0] instanceof Refusal);
    });

    testOfFake('a reply after the handler is done is an error, not a silent loss', async () => {
      let late: (() => Promise<void>) | undefined;
      await using r = await rig((_message, context) => {
        late = () => context.send(jsonReply(1));
        return undefined;
      });
      await r.agent.deliver({});
      await assert.rejects(late?.() ?? Promise.resolve(), /after its handler was done/);
      assert.equal(r.agent.replies.length, 0);
    });
  });

  describe(`runs, ${name}`, () => {
    test('one handler runs at a time, in the order of arrival, unless the worker allows more', async () => {
      const book: string[] = [];
      await using r = await rig(async ({ messageId }) => {
        book.push(`+${messageId}`);
        await turn();
        book.push(`-${messageId}`);
        return jsonReply(messageId);
      });
      const ids = Array.from({ length: 20 }, (_, i) => `m${i}`);
      await Promise.all(ids.map((messageId) => r.agent.deliver({ messageId })));
      assert.deepEqual(
        book,
        ids.flatMap((id) => [`+${id}`, `-${id}`]),
      );
      assert.deepEqual(
        r.agent.replies.map(({ responseTo }) => responseTo),
        ids,
      );
    });

    test('no more handlers run at once than the worker allows', async () => {
      let running = 0;
      let most = 0;
      const both = deferred();
      await using r = await rig(
        async () => {
          most = Math.max(most, ++running);
          if (running === 2) both.resolve();
          await both.promise;
          await turn();
          running -= 1;
          return undefined;
        },
        { concurrency: 2 },
      );
      await Promise.all(Array.from({ length: 10 }, (_, i) => r.agent.deliver({ messageId: `m${i}` })));
      assert.equal(most, 2);
    });

    testOfFake('a message that comes again while its handler runs joins that run', async () => {
      const release = deferred();
      let runs = 0;
      await using r = await rig(
        async () => {
          runs += 1;
          await release.promise;
          return jsonReply(runs);
        },
        { concurrency: 4 },
      );
      const calls = [r.agent.deliver({}), r.agent.deliver({})];
      await r.agent.arrived();
      release.resolve();
      await Promise.all(calls);
      assert.equal(runs, 1);
      assert.equal(r.agent.replies.length, 1);
    });

    testOfFake('a run outlives a restart of the agent, and the message that comes again joins it', async () => {
      const entered = deferred();
      const release = deferred();
      let runs = 0;
      await using r = await rig(async () => {
        runs += 1;
        entered.resolve();
        await release.promise;
        return jsonReply(7);
      });
      const lost = r.agent.deliver({});
      lost.catch(() => undefined);
      await entered.promise;
      r.agent.stop();
      await assert.rejects(lost, (error) => !(error instanceof GivenBack));
      await r.log.line('worker.agent_lost');
      await r.agent.start();
      await r.agent.registered(2);
      const again = r.agent.deliver({});
      await r.agent.arrived();
      release.resolve();
      await again;
      assert.equal(runs, 1);
      assert.deepEqual(
        r.agent.replies.map(({ messageId, content }) => [messageId, content.toString()]),
        [[replyMessageId(ID, 0), '7']],
      );
    });

    testOfFake('a reply that was sent before the agent was restarted arrives after it', async () => {
      const entered = deferred();
      let isSent = false;
      await using r = await rig(async (_message, context) => {
        const sent = context.send(jsonReply('early'));
        entered.resolve();
        await sent;
        isSent = true;
        return jsonReply('last');
      });
      const block = deferred();
      r.agent.judge = () => block.promise.then(() => 'take');
      const lost = r.agent.deliver({});
      lost.catch(() => undefined);
      await entered.promise;
      r.agent.stop();
      await assert.rejects(lost);
      assert.equal(isSent, false);
      await r.log.line('worker.agent_lost');
      r.agent.judge = () => 'take';
      await r.agent.start();
      await r.agent.registered(2);
      await r.agent.deliver({});
      assert.deepEqual(
        r.agent.replies.map(({ content }) => content.toString()),
        ['"early"', '"last"'],
      );
      block.resolve();
    });

    testOfFake('a handler that throws gives the message back with its text', async () => {
      await using r = await rig(() => {
        throw new Error('no disk \ud800');
      });
      await assert.rejects(r.agent.deliver({}), givenBack('failed', /^no disk \ufffd$/));
      assert.equal((await r.log.line('worker.handler_failed')).fields['message_id'], ID);
    });

    testOfFake('what a handler sent before it throws arrives, and then the message comes back', async () => {
      await using r = await rig(async (_message, { send }) => {
        void send(jsonReply(1));
        await turn();
        void send(jsonReply(2));
        throw new Error('half way');
      });
      await assert.rejects(r.agent.deliver({}), givenBack('failed', /half way/));
      assert.equal(r.agent.replies.length, 2);
    });

    testOfFake('a refusal and content that is not JSON are told apart from a failure', async () => {
      await using r = await rig((message) => {
        if (message.json() === 1) throw new Refusal('not one');
        return undefined;
      });
      await assert.rejects(r.agent.deliver({ content: Buffer.from('1') }), givenBack('invalid', /^not one$/));
      await assert.rejects(r.agent.deliver({ content: Buffer.from('{') }), givenBack('invalid', /is not JSON/));
    });

    testOfFake('a reply that is none is a failure of the handler, and the next message finds it well', async () => {
      await using r = await rig(({ messageId }) =>
        messageId === 'bad' ? ({ content: 7 } as never) : jsonReply(messageId),
      );
      await assert.rejects(r.agent.deliver({ messageId: 'bad' }), givenBack('failed', /./));
      await r.agent.deliver({ messageId: 'good' });
      assert.equal(r.agent.replies.length, 1);
    });

    testOfFake('a message without an id is handled, each time it comes', async () => {
      let runs = 0;
      await using r = await rig(() => void (runs += 1), { concurrency: 2 });
      await Promise.all([r.agent.deliver({ messageId: '' }), r.agent.deliver({ messageId: '' })]);
      assert.equal(runs, 2);
    });

    test('a content can be read as a stream, whatever its size', async () => {
      await using r = await rig(
        async (message) => {
          const chunks: Buffer[] = [];
          for await (const chunk of message.body()) chunks.push(chunk as Buffer);
          return { content: Buffer.concat(chunks) };
        },
        { streamContent: true },
      );
      for (const size of [0, 5, 3_000_000]) {
        const content = Buffer.alloc(size, 'xyz');
        await r.agent.deliver({ messageId: `m${size}`, content });
        assert.ok(r.agent.replies.at(-1)?.content.equals(content), `${size} bytes`);
      }
    });
  });

  describe(`events and stop, ${name}`, () => {
    testOfFake('events of the agent reach onEvent, and one that throws is logged', async () => {
      const events: WorkerEvent[] = [];
      await using r = await rig(() => undefined, {
        onEvent: (event) => {
          events.push(event);
          if (event.name === 'unknown') throw new Error('odd');
        },
      });
      const detail = 'd';
      for (const name of [
        Event.RECEIVED_DISCONNECT,
        Event.UNEXPECTED_DISCONNECT,
        Event.CONNECTION_RESTORED,
        Event.UNKNOWN,
      ])
        await r.agent.notify({ name, detail, metadata: { a: 'b' } });
      assert.deepEqual(
        events.map((event) => event.name),
        ['disconnect-received', 'disconnected', 'connection-restored', 'unknown'],
      );
      assert.deepEqual(events[0]?.metadata, { a: 'b' });
      assert.match((await r.log.line('worker.event_failed')).text, /odd/);
    });

    test('a handler under way finishes, its reply is accepted and its receipt returned', async () => {
      const entered = deferred();
      await using r = await rig(async (_message, context) => {
        entered.resolve();
        await new Promise((resolve) => context.signal.addEventListener('abort', resolve));
        return jsonReply('last');
      });
      const receipt = r.agent.deliver({});
      await entered.promise;
      r.stop.abort();
      await receipt;
      await r.ended;
      assert.equal(r.agent.replies.length, 1);
    });

    testOfFake(
      'a handler that gives up because of the stop counts as no attempt, and what waited is refused',
      async () => {
        const entered = deferred();
        let runs = 0;
        await using r = await rig(async (_message, context) => {
          runs += 1;
          entered.resolve();
          await new Promise((_resolve, reject) =>
            context.signal.addEventListener('abort', () => reject(new Error('broken off'))),
          );
          return undefined;
        });
        const first = r.agent.deliver({ messageId: 'a' });
        await entered.promise;
        const second = r.agent.deliver({ messageId: 'b' });
        await r.agent.arrived();
        const both = [
          assert.rejects(first, givenBack('unavailable', /^broken off$/)),
          assert.rejects(second, givenBack('unavailable', /stopping/)),
        ];
        r.stop.abort();
        await Promise.all(both);
        assert.equal(runs, 1);
      },
    );

    testOfFake('a handler that does not finish is cut off at the stop time-out', async () => {
      const entered = deferred();
      await using r = await rig(
        () => {
          entered.resolve();
          return new Promise(() => undefined);
        },
        { stopTimeout: 10 },
      );
      const receipt = r.agent.deliver({});
      receipt.catch(() => undefined);
      await entered.promise;
      r.stop.abort();
      await r.ended;
      await assert.rejects(receipt);
    });

    testOfFake('a worker that starts, works and stops many times leaves nothing behind', async () => {
      await (await rig(() => undefined))[Symbol.asyncDispose]();
      const before = await heldAtRest();
      for (let i = 0; i < 10; i++) {
        await using r = await rig(({ content }) => ({ content }));
        await r.agent.deliver({ content: Buffer.alloc(i * 20_000) });
      }
      await assertNothingMore(before);
    });
  });
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
