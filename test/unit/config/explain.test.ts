/** What is said of a setting, and what of its value may be shown. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { explainSetting } from '../../../src/config/explain.js';
import { ORIGINAL_SETTINGS } from '../../../src/config/original.js';
import { SETTING_NAMES, settingOf } from '../../../src/config/settings.js';
import { shownValue } from '../../../src/config/shown.js';
import { load, loaded } from '../../support/settings.js';

test('every setting is explained by its key, its flag and its variable', () => {
  for (const name of SETTING_NAMES) {
    const explained = explainSetting(name);
    assert.ok(explained.kind === 'setting');
    assert.equal(explained.doc, settingOf(name).doc);
    for (const word of [explained.flag, explained.variable, `$${explained.variable}`, name.toUpperCase()])
      assert.deepEqual(explainSetting(word), explained, word);
  }
});

test('every setting of the original is explained, and every key of a worker’s file', () => {
  for (const name of Object.keys(ORIGINAL_SETTINGS)) assert.notEqual(explainSetting(name).kind, 'unknown', name);
  const server = explainSetting('server');
  assert.ok(server.kind === 'original');
  assert.equal(server.to, 'broker');
  const level = explainSetting('log-level');
  assert.match(level.kind === 'setting' ? (level.original ?? '') : '', /^since 0\.2, .*Capitals/);
  for (const key of ['handlers', 'start-timeout', 'env', 'exec', 'remote_content'])
    assert.equal(explainSetting(key).kind, 'worker-key', key);
});

test('an unknown key names the nearest one, and a hostile one none', () => {
  assert.deepEqual(explainSetting('log-levle'), { kind: 'unknown', nearest: 'log-level' });
  for (const word of ['', '__proto__', 'constructor', 'x'.repeat(100_000), '\u001b[2J'])
    assert.equal(explainSetting(word).kind, 'unknown', word.slice(0, 20));
});

test('where each setting comes from is known: flag over environment over file', async () => {
  const file = '/etc/yggdrasil/config.toml';
  const result = await load({
    argv: ['--log-level', 'warn'],
    env: { YGGD_LOG_LEVEL: 'debug', YGGD_TOPIC_PREFIX: 'p' },
    files: { [file]: '\nserver = "mqtt://b"\nlog-level = "error"\ntopic-prefix = "q"\nusername = "u"\n' },
  });
  assert.ok(result.kind === 'ok');
  assert.deepEqual(Object.fromEntries(result.origins), {
    broker: { kind: 'file', source: file, line: 2 },
    'log-level': { kind: 'flag', source: '--log-level', line: undefined },
    'topic-prefix': { kind: 'environment', source: '$YGGD_TOPIC_PREFIX', line: undefined },
    username: { kind: 'file', source: file, line: 5 },
  });
});

test('values are shown as TOML, and nothing that is secret in an address', async () => {
  const { settings } = await loaded({
    argv: [
      '--broker',
      'wss://ann:hunter2@b/mqtt?token=hunter2',
      '--proxy',
      'http://ann:hunter2@p:3128',
      '--drain-timeout',
      '90',
    ],
  });
  assert.equal(shownValue(settings, 'broker'), '["mqtt://b", "wss://b/mqtt?[redacted]"]');
  assert.equal(shownValue(settings, 'proxy'), '"http://p:3128"');
  assert.equal(shownValue(settings, 'drain-timeout'), '"90s"');
  assert.equal(shownValue(settings, 'cert-file'), undefined);
  const all = SETTING_NAMES.map((name) => shownValue(settings, name) ?? '');
  assert.ok(!all.join('').includes('hunter2'));
  // `ygg config show --json` reads them as JSON.
  for (const value of all) if (value !== '') JSON.parse(value);
});
