/** CONTRACT section 4, group network: lines that are dead without saying so, lossy, far or slow. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { ChaosBench, EAGER } from '../support/chaos-bench.js';
import { fault } from '../support/fault.js';
import { lossyNet, lossyNetMissing } from '../support/lossy-net.js';
import { mosquittoMissing } from '../support/mosquitto.js';
import { ROOT } from '../support/yggd.js';

const options = { skip: mosquittoMissing, timeout: 900_000 };

fault('network', 'half-open connection', options, async (run) => {
  await using chaos = await ChaosBench.make();
  const { proxy, ledger } = chaos;
  const yggd = await chaos.start([...EAGER, '--mqtt-keepalive=2s', '--mqtt-connect-timeout=1s']);
  const ids: string[] = [];
  for (const _ of run.each(2, 20)) {
    ids.push(...chaos.send(20));
    yggd.forget();
    await ledger.harm('link', async () => {
      proxy.freeze();
      ids.push(...chaos.send(20));
      await yggd.line('connection.lost', ({ reason }) => reason === 'keepalive');
      // Whoever accepts and says nothing is no broker either.
      await yggd.line('connection.failed', ({ reason }) => reason === 'timeout');
      proxy.thaw();
    });
    await chaos.answered(ids);
  }
  chaos.close(run);
});

fault('network', '20 % of packets lost', { ...options, skip: mosquittoMissing || lossyNetMissing }, async (run) => {
  await using net = await lossyNet(0.2);
  await using chaos = await ChaosBench.make({ proxyHost: net.host });
  const { home } = chaos.bench;
  const words = [...net.inside, process.execPath, join(ROOT, 'dist/yggd.js')];
  const program = await home.addDraft('yggd-inside', `#!/bin/sh\nexec ${words.join(' ')} "$@"\n`);
  await chaos.start(EAGER, { program });
  for (const _ of run.each(1, 20)) await chaos.answered(chaos.send(60));
  const dropped = await net.dropped();
  run.test.diagnostic(`${dropped} packets were lost`);
  assert.ok(dropped > 0);
  chaos.close(run);
});

fault('network', '2 s of latency', options, async (run) => {
  await using chaos = await ChaosBench.make();
  const { proxy } = chaos;
  proxy.delay = 2_000;
  const yggd = await chaos.start([...EAGER, '--mqtt-keepalive=10s']);
  for (const _ of run.each(1, 10)) await chaos.answered(chaos.send(50));
  assert.equal(proxy.count, 1, 'slow is not dead');
  chaos.close(run);
  await yggd.kill();
});

fault('network', '1 kB/s', options, async (run) => {
  await using chaos = await ChaosBench.make();
  const { proxy } = chaos;
  const yggd = await chaos.start([...EAGER, '--mqtt-keepalive=2s']);
  proxy.rate = 1_000;
  for (const _ of run.each(1, 10)) {
    // In both directions longer on its way than a dead broker would be silent.
    await chaos.answered(chaos.send(1, () => JSON.stringify('x'.repeat(6_000))));
    await chaos.answered(chaos.send(5));
  }
  assert.equal(proxy.count, 1, 'slow is not dead');
  chaos.close(run);
  proxy.rate = Infinity;
  assert.equal(await yggd.stop(), 0);
});
