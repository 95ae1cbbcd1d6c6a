/** What web servers send and what URLs and metadata ask for: the URL policy, headers both ways, bodies. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { validateHeaderName, validateHeaderValue } from 'node:http';
import { isIP } from 'node:net';
import { Readable } from 'node:stream';
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { AgentError } from '../../../src/errors.js';
import { metadataFrom } from '../../../src/message/index.js';
import { addressKind } from '../../../src/processor/address.js';
import { receiveBody, type ReceivedBody } from '../../../src/processor/body.js';
import { describeError } from '../../../src/processor/describe-error.js';
import { headersFromMetadata, idempotencyKey } from '../../../src/processor/headers.js';
import { LONGEST_RETRY_AFTER, parseRetryAfter } from '../../../src/processor/retry.js';
import {
  createUrlPolicy,
  describeUrl,
  judgeUrl,
  literalAddress,
  parseHttpUrl,
  withDataHost,
} from '../../../src/processor/url-policy.js';
import { hostileText, mutated, textExamples } from '../corpus.js';
import { assertReason, caught, claim, SECRET, target, type Target } from '../target.js';

const URLS = [
  'https://example.org/a?b=c#d',
  `https://ann:${SECRET}@example.org:8443/x?token=${SECRET}#${SECRET}`,
  'http://127.0.0.1:8080/',
  'https://[::ffff:169.254.169.254]/latest',
  'https://0x7f.1/',
  'https://2130706433/',
  'http://localhost./',
  'ftp://example.org/',
];
const open = createUrlPolicy({});
const narrow = createUrlPolicy({
  contentHosts: ['example.org', 'http://127.0.0.1:8080', '[::1]:1', 'localhost'],
  dataHost: 'data.example:8443',
  brokers: ['mqtts://broker.example'],
});

/** Whether an IPv4 address is public or private, said without tables: neither loopback, link-local, multicast nor reserved. */
function isUsableV4(address: string): boolean {
  const [a = 0, b = 0] = address.split('.').map(Number);
  const isCloud = ['168.63.129.16', '192.0.0.192', '100.100.100.200'].includes(address);
  return a !== 0 && a !== 127 && a < 224 && !(a === 169 && b === 254) && !isCloud;
}

const plainBodies = [Buffer.from('{"a":1}'), Buffer.alloc(3_000, 0x61), Buffer.alloc(0)];
const bodies = plainBodies.flatMap((plain) => [plain, gzipSync(plain), deflateSync(plain), brotliCompressSync(plain)]);
const bomb = gzipSync(Buffer.alloc(20_000_000));
const BODY_LIMIT = 4_000;

async function received(
  bytes: Buffer,
  encoding: string | undefined,
  announced?: string,
): Promise<ReceivedBody | Error> {
  const files = {
    newContentFile: () => assert.fail('a body within the limit needs no file'),
  };
  const halves = [bytes.subarray(0, bytes.length >> 1), bytes.subarray(bytes.length >> 1)].filter(
    ({ length }) => length > 0,
  );
  try {
    const options = { encoding, announced, limit: BODY_LIMIT, files, onChunk: () => undefined };
    return await receiveBody(Readable.from(halves), options);
  } catch (error) {
    claim(error instanceof Error);
    return error;
  }
}

export const processorTargets: readonly Target[] = [
  target('URLs and the policy', {
    inputs: hostileText(URLS),
    examples: [...textExamples, ...URLS],
    share: 2,
    run: (text) => {
      const url = parseHttpUrl(text);
      if (url === undefined) return undefined;
      const asked = withDataHost(narrow, url);
      return { url, asked, verdicts: [judgeUrl(open, url), judgeUrl(narrow, url), judgeUrl(narrow, asked)] };
    },
    judge: (outcome) => {
      if (outcome === undefined) return;
      const { url, asked, verdicts } = outcome;
      claim(url.protocol === 'https:' || url.protocol === 'http:');
      assert.equal(asked.host, 'data.example:8443');
      const shown = describeUrl(url);
      claim(!shown.includes('?') && !shown.includes('#') && new URL(shown).username === '');
      for (const verdict of verdicts) if (verdict.kind === 'refused') assertReason(verdict.reason, 20_000);
      const [anywhere, listed] = verdicts;
      const address = literalAddress(url);
      if (anywhere?.kind === 'allowed') {
        assert.equal(url.protocol, 'https:');
        if (address !== undefined) assert.equal(addressKind(address), 'usable');
        if (address !== undefined && isIP(address) === 4) claim(isUsableV4(address));
      }
      if (listed?.kind === 'allowed') {
        claim(
          ['example.org', '127.0.0.1', '::1', 'localhost', 'data.example'].includes(
            url.hostname.replace(/^\[|\]$|\.$/g, ''),
          ),
        );
      }
    },
  }),
  target('content-hosts, data-host and brokers', {
    inputs: fc.tuple(
      hostileText(['example.org', 'host:8080', 'http://127.0.0.1:8080', '[::1]:1', '::1', 'https://a/b', '*.x']),
      hostileText(['data.example', 'h:1', '']),
    ),
    examples: textExamples.map((text): [string, string] => [text, text]),
    run: ([host, dataHost]) => caught(() => createUrlPolicy({ contentHosts: [host], dataHost, brokers: [host] })),
    judge: (outcome) => {
      if ('value' in outcome) return;
      claim(outcome.error instanceof AgentError && outcome.error.code === 'config.invalid');
      assertReason(outcome.error.message);
    },
  }),
  target('addressKind', {
    inputs: fc.oneof(
      fc.ipV4(),
      fc.ipV6(),
      fc.ipV4().map((v4) => `::ffff:${v4}`),
      hostileText(['127.0.0.1', '::1', 'fe80::1%eth0', '64:ff9b::7f00:1'], 8_000),
    ),
    examples: textExamples,
    run: (address) => addressKind(address),
    judge: (kind, address) => {
      const v4 = isIP(address) === 4 ? address : /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
      if (v4 !== undefined) assert.equal(kind === 'usable', isUsableV4(v4), address);
      if (isIP(address) === 0 && !address.includes('%')) assert.equal(kind, 'reserved');
    },
  }),
  target('headersFromMetadata', {
    inputs: fc
      .array(
        fc.tuple(
          hostileText(
            ['Content-Type', 'x-a', 'Host', 'content-length', 'Proxy-Authorization', '__proto__', 'cookie'],
            200,
          ),
          hostileText(['text/plain', 'a\r\nX: 1', 'é'], 400),
        ),
        { maxLength: 5 },
      )
      .map(metadataFrom),
    examples: textExamples.map((text) =>
      metadataFrom([
        [text, text],
        ['x-a', text],
      ]),
    ),
    share: 2,
    run: (metadata) => headersFromMetadata(metadata),
    judge: ({ headers, dropped }, metadata) => {
      for (const [name, value] of Object.entries(headers)) {
        validateHeaderName(name);
        validateHeaderValue(name, value);
        claim(!/[\r\n\0]/.test(name + value));
        claim(!['host', 'content-length', 'cookie', 'connection', 'transfer-encoding'].includes(name));
      }
      claim(dropped.every((name) => Object.hasOwn(metadata, name)));
    },
  }),
  target('idempotencyKey and describeError', {
    inputs: hostileText(['9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d'], 256),
    run: (text) => ({
      key: idempotencyKey(text),
      told: describeError(new Error('x', { cause: new AggregateError([new Error(text)]) })),
    }),
    judge: ({ key, told }, text) => {
      if (text !== '') validateHeaderValue('idempotency-key', key);
      assert.match(key, /^[\x21-\x7e]*$/);
      claim(key.length <= 9 * text.length && told.length <= text.length + 100);
    },
  }),
  target('parseRetryAfter', {
    inputs: fc.oneof(
      hostileText(['120', 'Wed, 21 Oct 2026 07:28:00 GMT', '-1', '1e9', '0x10']),
      fc.array(hostileText(['5']), { maxLength: 3 }),
    ),
    examples: textExamples,
    run: (value) => parseRetryAfter(value, 1_700_000_000_000),
    judge: (span) => claim(span === undefined || (span >= 0 && span <= LONGEST_RETRY_AFTER)),
  }),
  target('receiveBody', {
    inputs: fc.tuple(
      mutated(bodies, 16_384),
      fc.constantFrom<string | undefined>(
        undefined,
        '',
        'identity',
        'gzip',
        'X-GZIP',
        'deflate',
        'br',
        'zstd',
        'gzip, br',
        '\0',
      ),
      fc.option(hostileText(['10', '-1', '1e400', '99999999999999999999'], 50), { nil: undefined }),
    ),
    examples: [
      [bomb, 'gzip', undefined],
      [bomb, undefined, undefined],
      ...bodies.map((each): [Buffer, string, undefined] => [each, 'gzip', undefined]),
    ],
    share: 0.3,
    run: ([bytes, encoding, announced]) => received(bytes, encoding, announced),
    judge: (outcome, [bytes, encoding]) => {
      if (outcome instanceof Error) return;
      claim(outcome.content.kind === 'inline' && outcome.content.bytes.length <= BODY_LIMIT);
      assert.equal(outcome.digest, createHash('sha256').update(outcome.content.bytes).digest('hex'));
      if (encoding === undefined) claim(outcome.content.bytes.equals(bytes));
    },
  }),
];
