/**
 * Inputs worth trying on any parser, and what makes more of them: edits of seeds (flipped bits, cuts, repeats, splices),
 * texts that pump one piece many times (super-linear regular expressions show there), and JSON that no serialiser writes.
 */
import fc from 'fast-check';

const utf8 = (text: string): Buffer => Buffer.from(text, 'utf8');
const latin1 = (text: string): Buffer => Buffer.from(text, 'latin1');
const deep = (open: string, depth: number, close = ''): string => open.repeat(depth) + close.repeat(depth);

/** Named, so that a failure in a fixed bug says which. */
export const CORPUS: Readonly<Record<string, Buffer>> = {
  empty: Buffer.alloc(0),
  NUL: utf8('\0'),
  'CR LF and a header': utf8('x\r\nX-Injected: 1\r\n\r\n'),
  'byte order mark': utf8('\uFEFF{"a":1}'),
  'UTF-16': Buffer.from('\uFEFF{"a":1}', 'utf16le'),
  'lone surrogate, as bytes': latin1('"\xed\xa0\x80"'),
  'lone surrogate, escaped': utf8('{"message_id":"\\ud800","directive":"echo"}'),
  'overlong slash': latin1('"\xc0\xaf\xe0\x80\xaf"'),
  'beyond Unicode': latin1('"\xf4\x90\x80\x80\xf8\x88\x80\x80\x80"'),
  'cut character': latin1('"\xe2\x82'),
  'nothing but 0xff': Buffer.alloc(64, 0xff),
  'nested as deep as allowed': utf8(deep('[', 64, ']')),
  'nested one deeper': utf8(deep('[', 65, ']')),
  'nested 100,000 deep': utf8(deep('[', 50_000, ']')),
  'opened for ever': utf8(deep('[', 60_000)),
  'objects opened for ever': utf8(deep('{"a":', 12_000)),
  'mixed nesting': utf8(deep('[{"a":', 5_000)),
  __proto__: utf8('{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}'),
  'names with a meaning': utf8(
    '{"toString":1,"valueOf":1,"hasOwnProperty":1,"__defineGetter__":1,"then":1,"toJSON":1}',
  ),
  'a name twice': utf8('{"a":1,"a":{"b":2},"a":[3]}'),
  'huge numbers': utf8('[1e400,-1e400,1e-400,-0,0e0,123456789012345678901234567890,1E+999,0.1e-5]'),
  'a number of 20,000 digits': utf8('1'.repeat(20_000)),
  'not quite JSON': utf8("[NaN,Infinity,undefined,'a',01,+1,.5,1.,0x10,1e,--1,]"),
  comments: utf8('{/*x*/"a":1,//y\n"b":2,}'),
  'control character in a string': utf8('{"a":"\u0001"}'),
  'C1, DEL, bidi': utf8('"\u009b31m\u007f\u202e\u2066\u2028"'),
  terminal: utf8('\u001b[2J\u001b]0;owned\u0007'),
  'way out': utf8('../../../../etc/passwd\0.png'),
  format: utf8('%s%n%x%d%%${x}{{x}}$(id)`id`'),
  percent: utf8('%00%0d%0a%2e%2e%2f%ff%'),
  'protobuf: endless varint': Buffer.alloc(32, 0x80),
  'protobuf: length below zero': Buffer.from('0affffffffffffffffff01', 'hex'),
  'protobuf: length beyond the end': Buffer.from('0affffffff0f00', 'hex'),
  'protobuf: groups opened for ever': Buffer.alloc(60_000, 0x0b),
  'protobuf: field 0': Buffer.from('00010200', 'hex'),
  'protobuf: map entry __proto__': Buffer.concat([Buffer.from('120e0a095f5f70726f746f5f5f120178', 'hex')]),
  'mqtt: remaining length overflows': Buffer.from('30ffffffff7f', 'hex'),
  'mqtt: remaining length without end': Buffer.alloc(12, 0xff),
  'mqtt: 256 MiB announced': Buffer.from('32ffffff7f0001', 'hex'),
  'mqtt: topic longer than the packet': Buffer.from('3204ffff6161', 'hex'),
  'mqtt: every reserved type': Buffer.from('0000f00010003000', 'hex'),
  'http: garbage': utf8('HTTP/1.1 999 \xff\r\nContent-Length: -1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n'),
  'one long word': utf8('a'.repeat(60_000)),
  'one long line of blanks': utf8(' '.repeat(60_000)),
  'many lines': utf8('\n'.repeat(60_000)),
  'many ats': utf8('a@'.repeat(30_000)),
  'dots and ats': utf8(`${'a.'.repeat(30_000)}@`),
  quotes: utf8(`"'`.repeat(30_000)),
};

/** Far above what a parser sees as a rule; for those that take payloads of any size. */
export const HUGE: Readonly<Record<string, Buffer>> = {
  'a string of 10 MB': utf8(
    `{"type":"data","message_id":"a","directive":"echo","content":"${'x'.repeat(10_000_000)}"}`,
  ),
  '4 MiB and one byte': Buffer.alloc(4 * 1024 * 1024 + 1, 0x61),
  'a list of 2 million': utf8(`{"type":"data","directive":"echo","content":[${'1,'.repeat(2_000_000)}1]}`),
  'opened for ever': utf8(`{"type":"data","directive":"echo","content":${'['.repeat(8_000_000)}`),
  'a command of 8 MB': utf8(`{"type":"command","content":{"command":"${'a.'.repeat(4_000_000)}@"}}`),
};

/** Bytes that mean something to some parser. */
const TOKENS = [
  ...[
    '\0',
    '\r\n',
    '\u001b[31m',
    '\u2028',
    '\ufeff',
    '"',
    "'",
    '\\',
    '\\u0000',
    '\\ud800',
    '{',
    '}',
    '[',
    ']',
    ':',
    ',',
  ],
  ...[
    '=',
    '#',
    '%',
    '%00',
    '/',
    '//',
    '://',
    '@',
    '..',
    '+',
    '$',
    '-',
    '-1',
    '1e400',
    '-0',
    '__proto__',
    'constructor',
  ],
  ...['toString', 'null', 'true', '9999999999999999999', 'metadata', 'content', '\n', '\t', ' ', '""', '{}', '[]', '*'],
].map(utf8);
const RAW_TOKENS = [
  latin1('\xff'),
  latin1('\xed\xa0\x80'),
  latin1('\xc0\x80'),
  latin1('\x80\x80\x80\x80\x01'),
  Buffer.alloc(4),
];
const INSERTIONS: readonly Buffer[] = [...TOKENS, ...RAW_TOKENS];

type Edit = readonly [kind: number, at: number, length: number, more: number];

const edit: fc.Arbitrary<Edit> = fc.tuple(fc.nat(6), fc.nat(0xffff), fc.nat(0xffff), fc.nat(255));

function edited(bytes: Buffer, [kind, where, span, more]: Edit, others: readonly Buffer[]): Buffer {
  const at = where % (bytes.length + 1);
  const end = Math.min(bytes.length, at + (span % 64));
  const put = (piece: Buffer, behind = at): Buffer =>
    Buffer.concat([bytes.subarray(0, at), piece, bytes.subarray(behind)]);
  switch (kind) {
    case 0: {
      const copy = Buffer.from(bytes);
      if (at < copy.length) copy.writeUInt8(copy.readUInt8(at) ^ (1 << (more & 7)), at);
      return copy;
    }
    case 1:
      return put(Buffer.of(more), Math.min(bytes.length, at + 1));
    case 2:
      return put(Buffer.alloc(0), end);
    case 3:
      return put(Buffer.concat(Array.from({ length: 1 + (more % 40) }, () => bytes.subarray(at, end))));
    case 4:
      return put(INSERTIONS[more % INSERTIONS.length] ?? Buffer.alloc(0));
    case 5:
      return bytes.subarray(0, at);
    default: {
      const other = others[more % others.length] ?? Buffer.alloc(0);
      return put(other.subarray(span % (other.length + 1)), bytes.length);
    }
  }
}

const SMALL_CORPUS = Object.values(CORPUS).filter((bytes) => bytes.length < 1_000);

/** Seeds and pieces of the corpus with up to five edits; never longer than `longest`. */
export function mutated(seeds: readonly Buffer[], longest = 64 * 1024): fc.Arbitrary<Buffer> {
  const others = [...seeds, ...SMALL_CORPUS];
  // Seeds come first and often: an edit of what is valid gets further than one of what is refused at its first byte.
  const start = fc.oneof({ weight: 5, arbitrary: fc.nat(Math.max(0, seeds.length - 1)) }, fc.nat(others.length - 1));
  return fc.tuple(start, fc.array(edit, { maxLength: 5 })).map(([first, edits]) => {
    const bytes = edits.reduce((made, each) => edited(made, each, others), others[first] ?? Buffer.alloc(0));
    return bytes.subarray(0, longest);
  });
}

const PIECES = [
  ...[
    'a',
    'a.',
    'a-',
    'A',
    ' ',
    '\t',
    '\n',
    '\r',
    '1',
    '1 ',
    '1.',
    '.1',
    '0',
    '/',
    '//',
    '://',
    'a://',
    'a://@',
    '@',
    'a@',
  ],
  ...[
    '%',
    '%2',
    ':1',
    ':',
    '::',
    '"',
    "'",
    '""',
    '=',
    '[',
    '{',
    '(',
    ')',
    '.service/',
    '\\',
    '#',
    '-',
    '_',
    '+',
    ',',
    '\0',
  ],
  ...['é', '\ud800', '💥', '1h', '1ms', 'b=', 'a.b.', '[a]', '"a"', 'CN=', '0::/', ') S ', '?', '&', '*', '$'],
];

/** One piece many times between two others: what a backtracking expression chokes on. */
export function pumped(longest = 64 * 1024): fc.Arbitrary<string> {
  const piece = fc.constantFrom(...PIECES);
  const end = fc.constantFrom('', '!', '@', '\n', 'x', ' x', '=', '"', '1', '://', ']', '\u0000');
  return fc
    .tuple(fc.oneof(end, piece), piece, fc.nat(longest), fc.oneof(end, piece))
    .map(([before, middle, size, after]) => before + middle.repeat(Math.ceil(size / middle.length)) + after);
}

/** Any text at all: edits of the seeds, other encodings, bare code units, pumped pieces. */
export function hostileText(seeds: readonly string[], longest = 64 * 1024): fc.Arbitrary<string> {
  const bytes = mutated(seeds.map(utf8), longest);
  return fc.oneof(
    { weight: 12, arbitrary: bytes.map((each) => each.toString('utf8')) },
    { weight: 2, arbitrary: bytes.map((each) => each.toString('latin1')) },
    { weight: 2, arbitrary: fc.array(fc.nat(0xffff), { maxLength: 20 }).map((units) => String.fromCharCode(...units)) },
    { weight: 1, arbitrary: pumped(longest) },
  );
}

/** The corpus as examples for a parser of bytes, and of text. */
export const byteExamples: readonly Buffer[] = Object.values(CORPUS);
export const textExamples: readonly string[] = byteExamples.map((bytes) => bytes.toString('utf8'));

/** A JSON value as text, in ways no serialiser would write it; among them wrong types and names with a meaning. */
export const jsonText: fc.Arbitrary<string> = fc.letrec<{ value: string }>((tie) => {
  const space = fc.constantFrom('', '', '', ' ', '\n\t');
  const text = fc.string({ unit: 'binary', maxLength: 6 }).map((each) => JSON.stringify(each));
  const name = fc.oneof(text, fc.constantFrom('"__proto__"', '"constructor"', '"\\u0061"', '""', '"a"', '"content"'));
  const scalar = fc.oneof(
    text,
    fc.constantFrom(
      'null',
      'true',
      'false',
      '0',
      '-0',
      '1.0',
      '1e400',
      '12345678901234567890',
      '1E+5',
      '"\\ud800"',
      '""',
    ),
    fc.constantFrom('"\\r\\n"', '"\\u0000"', '"\\u2028\\u202e"', '"../x"', '{}', '[]', '"9"', '7', '-1'),
  );
  return {
    value: fc.oneof(
      { maxDepth: 4, withCrossShrink: true },
      { weight: 3, arbitrary: scalar },
      fc
        .tuple(fc.array(tie('value'), { maxLength: 4 }), space)
        .map(([items, gap]) => `[${items.join(`${gap},`)}${gap}]`),
      fc
        .tuple(fc.array(fc.tuple(name, tie('value')), { maxLength: 4 }), space)
        .map(([pairs, gap]) => `{${pairs.map(([n, v]) => `${gap}${n}${gap}:${v}`).join(',')}${gap}}`),
    ),
  };
}).value;

/** A JSON object with these members, each missing, right, of any type, or there twice, in any order. */
export function jsonObject(fields: Readonly<Record<string, readonly string[]>>): fc.Arbitrary<string> {
  const members = Object.entries(fields).map(([name, rights]) =>
    fc.oneof(
      { weight: 6, arbitrary: fc.constantFrom(...rights).map((right) => [`${JSON.stringify(name)}:${right}`]) },
      { weight: 1, arbitrary: jsonText.map((value) => [`${JSON.stringify(name)}:${value}`]) },
      { weight: 1, arbitrary: fc.constant<string[]>([]) },
      {
        weight: 1,
        arbitrary: fc
          .tuple(jsonText, fc.constantFrom(...rights))
          .map((two) => two.map((v) => `${JSON.stringify(name)}:${v}`)),
      },
    ),
  );
  return fc.tuple(fc.tuple(...members), fc.boolean()).map(([lists, isTurned]) => {
    const all = lists.flat();
    return `{${(isTurned ? all.reverse() : all).join(',')}}`;
  });
}
