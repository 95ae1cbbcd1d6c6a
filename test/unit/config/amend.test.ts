/** A program changes settings in a file that a person wrote, and the person finds all else as it was. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parse } from 'smol-toml';
import { amendToml, plainSettings, type Changes } from '../../../src/config/amend.js';
import { renderExample } from '../../../src/config/index.js';

function amended(text: string, changes: Changes): string {
  const result = amendToml(text, changes, 'config.toml');
  if (result.kind !== 'ok') assert.fail(result.reason);
  return result.text;
}

test('a value is replaced where it stands, with its comments, and a new one stands where the file shows it', () => {
  const text = [
    '# mine',
    '"broker" = [ # two',
    "  'mqtt://a', # \"x ]",
    ']   # keep',
    'username = """a ] " \\"""" # =',
    '  # cert-file = "x"',
    '',
    '[log]',
    'broker = 1',
    '',
  ];
  for (const newline of ['\n', '\r\n']) {
    assert.deepEqual(
      amended(text.join(newline), { broker: ['mqtts://b'], 'cert-file': '/c', 'key-file': '/k' }).split(newline),
      [
        ...['# mine', '"broker" = ["mqtts://b"]   # keep', text[4], text[5], 'cert-file = "/c"', 'key-file = "/k"'],
        ...['', '[log]', 'broker = 1', ''],
      ],
    );
  }
});

test('what is there already is left as it is written; what is taken out goes with its line', () => {
  const text = 'broker=[ "mqtt://a" ]#x\ncert-file = """\n/c"""\nkey-file = "/k"';
  assert.equal(amended(text, { broker: ['mqtt://a'] }), text);
  assert.equal(
    amended(text, { 'cert-file': undefined, 'ca-root': undefined }),
    'broker=[ "mqtt://a" ]#x\nkey-file = "/k"',
  );
  assert.equal(amended(text, { 'key-file': undefined }), 'broker=[ "mqtt://a" ]#x\ncert-file = """\n/c"""\n');
  assert.equal(amended('\uFEFF', { broker: 'x' }), '\uFEFFbroker = "x"\n');
  assert.equal(amended('', {}), '');
  assert.equal(amended('[t]\na = 1\n', { broker: 'x' }), 'broker = "x"\n[t]\na = 1\n');
});

test('a file that is no TOML, or hides a setting from a program, is refused with what to write', () => {
  assert.match(
    JSON.stringify(amendToml('broker =', { broker: 'x' }, 'c.toml')),
    /"refused","reason":"c\.toml:1:\d+: not TOML/,
  );
  // The key is written with an escape, which only a parser reads.
  const hidden = amendToml('"br\\u006fker" = "a"\n', { broker: ['x'] }, 'c.toml');
  assert.deepEqual(hidden, {
    kind: 'refused',
    reason: 'c.toml is written in a way that cannot be amended by a program: write `broker = ["x"]` into it',
  });
});

test('only texts and lists of texts are plain settings', () => {
  assert.deepEqual(plainSettings('a = "x"\nb = ["y"]\nc = 1\nd = [1]\n[e]\nf = "z"'), { a: 'x', b: ['y'] });
  assert.deepEqual(plainSettings('a ='), {});
});

test('the example keeps every line but those that are added', () => {
  const example = renderExample();
  const changed = amended(example, { broker: ['mqtts://b:1'], 'cert-file': '/c' });
  assert.deepEqual(
    changed.split('\n').filter((line) => line !== 'broker = ["mqtts://b:1"]' && line !== 'cert-file = "/c"'),
    example.split('\n'),
  );
  assert.equal(amended(changed, { broker: undefined, 'cert-file': undefined }), example);
});

test('whatever the values: the file says them afterwards, and the lines of others are untouched', () => {
  const line = fc.constantFrom(
    '# a',
    'log-level = "info" # "',
    "username = '''\nx ] = \"'''",
    'x = { a = [1, "]"] }',
    '',
    'broker = ["a", # ]\n"b"]',
  );
  const value = fc.oneof(fc.string({ unit: 'grapheme' }), fc.array(fc.string({ unit: 'binary-ascii' })));
  fc.assert(
    fc.property(fc.uniqueArray(line), value, fc.option(value, { nil: undefined }), (lines, broker, cert) => {
      const text = lines.join('\n');
      const result = amended(text, { broker, 'cert-file': cert });
      const expected = { ...parse(text), broker, ...(cert === undefined ? {} : { 'cert-file': cert }) };
      assert.deepEqual(JSON.parse(JSON.stringify(parse(result))), JSON.parse(JSON.stringify(expected)));
      for (const each of lines) if (!each.startsWith('broker')) assert.ok(result.includes(each));
    }),
  );
});
