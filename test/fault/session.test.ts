/** CONTRACT section 4, group session: what comes twice or out of turn, a broker that forgets, clocks that are stepped. */
import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { connectAsync } from 'mqtt';
import { bookWorker, heldUntil } from '../support/book-worker.js';
import { ChaosBench, HANDLER, WORKER } from '../support/chaos-bench.js';
import { fault } from '../support/fault.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import { PUBACK, PUBLISH } from '../support/mqtt-frames.js';
import { between } from '../support/seeded.js';

const options = { skip: mosquittoMissing, timeout: 600_000 };
const PATIENCE_MS = 60_000;

fault('session', 'duplicates: one id again and again, in every state', options, async (run) => {
  await using chaos = await ChaosBench.make();
  const { operator, home } = chaos.bench;
  const gate = home.path('gate');
  const body = `if (message.json() === 'held') { ${heldUntil(gate)} }
  await context.send({ content: message.content });
  note('returned', message.messageId);`;
  await home.addProgram(WORKER, bookWorker(home, WORKER, { handler: HANDLER, body }));
  await chaos.start();
  const again = (id: string, content: string): Promise<string> => operator.send(HANDLER, content, { id });
  for (const round of run.each(3, 50)) {
    // In flight: the first is held at the worker, those behind it wait for their turn.
    await rm(gate, { force: true });
    const ids = [...chaos.send(1, () => '"held"'), ...chaos.send(9, (n) => JSON.stringify(`round ${round}, ${n}`))];
    for (let n = 0; n < 30; n++) {
      const at = between(run.random, 0, ids.length - 1);
      await again(ids[at] ?? '', JSON.stringify('a copy'));
    }
    await writeFile(gate, '');
    await chaos.answered(ids);
    // Ended.
    for (const id of ids) await again(id, '"a copy"');
    // A message behind them in the same lane: they have been taken in when this one is answered.
    await chaos.answered(chaos.send(1));
  }
  // No harm was done, so that nothing excuses a second time.
  assert.equal(chaos.close(run).duplicated.length, 0);
});

fault('session', 'reordering: the same ids out of order, and redeliveries', options, async (run) => {
  await using chaos = await ChaosBench.make();
  const { proxy } = chaos;
  const { operator } = chaos.bench;
  await chaos.start();
  for (const _ of run.each(3, 50)) {
    const ids = chaos.send(20);
    const shuffled = [...ids].sort(() => run.random() - 0.5);
    await Promise.all(shuffled.map((id) => operator.send(HANDLER, '"a copy"', { id })));
    // What the agent acknowledged meanwhile and the broker did not hear of comes again, marked as such.
    proxy.fate = () => ({ at: ({ type }, way) => (way === 'up' && type === PUBACK ? 'cut-before' : undefined) });
    proxy.cut();
    await proxy.cuts.next(AbortSignal.timeout(PATIENCE_MS));
    proxy.fate = () => undefined;
    proxy.cut();
    await chaos.answered(ids);
  }
  chaos.close(run);
});

fault('session', 'session lost at the broker', options, async (run) => {
  await using chaos = await ChaosBench.make();
  const { broker } = chaos.bench;
  const yggd = await chaos.start();
  for (const round of run.each(2, 20)) {
    chaos.send(30);
    await chaos.proxy.acknowledged.next(AbortSignal.timeout(PATIENCE_MS));
    yggd.forget();
    // By a restart without persistence, or by somebody who takes the client id with a clean start and goes away.
    if (round % 2 === 0) await chaos.ledger.harm('broker', () => broker.restart());
    else {
      await chaos.ledger.harm('link', async () => {
        const intruder = await connectAsync(broker.url, { clientId: 'host-1', clean: true, reconnectPeriod: 0 });
        await intruder.endAsync(true);
      });
    }
    await yggd.line('connection.up', ({ sessionPresent }) => sessionPresent === false);
    // Results keep their order: when this one is answered, so is all that came before it.
    await chaos.untilAnswered();
  }
  chaos.close(run, 'acknowledged');
});

fault('session', '`reconnect` redelivered: carried out once', options, async (run) => {
  await using chaos = await ChaosBench.make();
  const { bench, proxy } = chaos;
  const { operator } = bench;
  const yggd = await chaos.start();
  for (const _ of run.each(3, 30)) {
    const ids = chaos.send(10);
    const before = proxy.count;
    let command = 0;
    // Its PUBACK is written before the goodbye, and neither arrives.
    proxy.fate = (n) => ({
      at: ({ type, topic = '', packetId = 0 }, way) => {
        if (n !== before + 1) return undefined;
        if (way === 'down' && type === PUBLISH && topic.endsWith('control/in')) command = packetId;
        const isIts = way === 'up' && type === PUBACK && command !== 0 && packetId === command;
        return isIts ? 'cut-before' : undefined;
      },
    });
    yggd.forget();
    proxy.cut();
    await yggd.line('connection.up');
    const id = await operator.command('reconnect', { delay: 0 });
    await yggd.line('command.repeated', ({ messageId }) => messageId === id);
    const connections = proxy.count;
    await operator.answerTo(await operator.command('ping'));
    await chaos.answered(ids);
    assert.equal(proxy.count, connections, 'it does not go on and on');
    const carriedOut = yggd.log.filter(({ event, messageId }) => event === 'command.reconnect' && messageId === id);
    assert.equal(carriedOut.length, 1);
  }
  chaos.close(run);
});
