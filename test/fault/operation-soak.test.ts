/**
 * 72 hours in a shortened form: an hour at full load with messages of every kind, whose memory, descriptors and disk
 * must stay flat once the window of remembered ids is full. YGG_SOAK_MINUTES makes it shorter or longer.
 */
import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { makeBench } from '../support/bench.js';
import { fault, isLong } from '../support/fault.js';
import { bytesBelow, Flow, footprintOf, mb, median, QUIET_BROKER, type Footprint } from '../support/flow.js';
import { startServer } from '../support/http.js';
import { mosquittoMissing } from '../support/mosquitto.js';

const MINUTES = Number(process.env['YGG_SOAK_MINUTES'] ?? (isLong ? 60 : 0.25));
const SAMPLES = 60;
const IN_FLIGHT = 64;
const LARGE = 'x'.repeat(70_000);

/** Echoes small contents and answers large ones with their length; POSTs where it is told to. */
const WORKER = `await serve({ handler: 'soak', concurrency: 16 }, (message) => {
  const value = message.json();
  if (typeof value === 'object') return { directive: value.post, content: message.messageId };
  return jsonReply(value.length > 1000 ? value.length : value);
});`;
const FETCHER = `await serve({ handler: 'fetch', detachedContent: true, concurrency: 16 }, (message) =>
  jsonReply(message.content.length));`;

interface Sample extends Footprint {
  readonly disk: number;
  readonly ended: number;
}

describe('soak', { skip: mosquittoMissing }, () => {
  fault('operation', 'soak: at full load memory, descriptors and disk stay flat', {}, async (run) => {
    await using server = await startServer(({ method, url }, response) => {
      response.end(method === 'GET' ? (url.endsWith('large') ? LARGE : 'small') : '');
    });
    await using bench = await makeBench({ config: QUIET_BROKER });
    const { home, operator } = bench;
    await home.addSdkWorker('soak-worker', WORKER);
    await home.addSdkWorker('fetch-worker', FETCHER);
    // Full after some seconds instead of some minutes: from then on each end forgets an older one.
    const flags = [`--content-hosts=${server.origin}`, '--dedupe-limit=20000'];
    const yggd = await bench.startWith(['soak', 'fetch'], flags);
    const scope = new AbortController();
    const flow = new Flow(operator, scope.signal, server);
    const samples: Sample[] = [];
    const span = MINUTES * 60_000;
    const began = performance.now();
    while (performance.now() - began < span) {
      const dice = run.random();
      if (dice < 0.9) flow.send('soak', '"small"');
      else if (dice < 0.92) flow.send('soak', `"${LARGE}"`);
      else if (dice < 0.96) flow.send('fetch', `"${server.origin}/${dice < 0.94 ? 'large' : 'small'}"`);
      else flow.send('soak', `{"post":"${server.origin}/result"}`);
      await flow.until(IN_FLIGHT - 1);
      if (performance.now() - began >= (span * (samples.length + 1)) / SAMPLES)
        samples.push({ ...footprintOf(yggd.pid), disk: bytesBelow(home.path('state')), ended: flow.ended });
    }
    await flow.until(0);
    scope.abort();
    run.count(flow.sent);
    assert.deepEqual([flow.duplicates, flow.refused, flow.ended], [0, 0, flow.sent]);

    const part = (from: number, to: number): Sample[] => samples.slice(samples.length * from, samples.length * to);
    const [early, late] = [part(1 / 3, 2 / 3), part(2 / 3, 1)];
    for (const name of ['rss', 'anonymous', 'descriptors', 'disk', 'ended'] as const) {
      const of = (sample: Sample): number => sample[name];
      const show = (value: number): string => (name === 'descriptors' || name === 'ended' ? String(value) : mb(value));
      const [first, before, after] = [part(0, 1 / 3), early, late].map((each) => median(each.map(of)));
      run.test.diagnostic(
        `${name}, medians of three thirds: ${[first, before, after].map((v) => show(v ?? 0)).join(', ')}`,
      );
    }
    const rate = flow.sent / (MINUTES * 60);
    run.test.diagnostic(
      `${flow.sent} messages in ${MINUTES} minutes, ${rate.toFixed(0)} a second; peak ${mb(samples.at(-1)?.peak ?? 0)}`,
    );
    if (!isLong) return;
    const grew = (name: keyof Sample): number => median(late.map((s) => s[name])) / median(early.map((s) => s[name]));
    assert.ok(grew('rss') < 1.1, 'resident memory stays flat');
    assert.ok(grew('disk') < 1.1, 'disk stays flat');
    assert.ok(grew('descriptors') < 1.1, 'descriptors stay flat');
  });
});
