/** What is given away: secrets are found however they are written, and what is none stays. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { journalLines } from '../../../src/cli/doctor/journal-lines.js';
import { maskedUnit, Redactor } from '../../../src/cli/doctor/redact.js';

test('known secrets go in every form', () => {
  const redactor = new Redactor();
  redactor.add('p@ss "word"/1');
  redactor.addFrom('mqtts://user:se%2Fcret@host:1 and mqtt://a-token@host, http://me:w:x/y@z');
  for (const text of ['p@ss "word"/1', JSON.stringify('p@ss "word"/1'), encodeURIComponent('p@ss "word"/1')])
    assert.ok(!redactor.text(`it is ${text}.`).includes('word'), text);
  assert.ok(!redactor.text(`Basic ${Buffer.from('p@ss "word"/1').toString('base64')}`).includes('cEBzcyA'));
  assert.equal(redactor.text('se/cret se%2Fcret a-token'), '[redacted] [redacted] [redacted]');
  assert.equal(redactor.text('w:x/y'), '[redacted]');
  redactor.add('abc');
  assert.equal(redactor.text('abc'), 'abc');
});

test('what looks like a secret goes too', () => {
  const clean = (text: string): string => new Redactor().text(text);
  assert.equal(clean('to mqtts://u:p/q@h:8883/x'), 'to mqtts://[redacted]@h:8883/x');
  assert.equal(clean('GET https://h.example/up/t0k?sig=1, then'), 'GET https://h.example/…, then');
  assert.equal(clean('Authorization: Bearer abcdefgh'), 'Authorization: [redacted] [redacted]');
  assert.equal(
    clean('"password": "x y", api_key=abc; TOKEN=\'q\''),
    '"password": [redacted], api_key=[redacted]; TOKEN=[redacted]',
  );
  assert.equal(clean('eyJhbGciOiJIUzI1.eyJzdWIi.abc-_d'), '[redacted]');
  const pem = '-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----';
  assert.equal(clean(`a ${pem} b`), 'a [redacted] b');
  assert.equal(clean(`a ${pem.slice(0, 40)}`), 'a [redacted]');
});

test('what is none stays', () => {
  const clean = (text: string): string => new Redactor().text(text);
  for (const text of [
    '"password-file": "/etc/yggdrasil/password"',
    '`password-file`: mode 0600, user 0, group 0',
    'proxy-credentials-file = "/etc/x"',
    'mqtts://broker.example:8883 refused the connection: bad user name or password. Check `username`',
    'CN=localhost, issued by CN=ca of a test',
  ])
    assert.equal(clean(text), text);
});

test('the unit keeps names of variables and loses their values', () => {
  assert.equal(
    maskedUnit('[Service]\nEnvironment="A=b c" D=e\nEnvironment=\nSetCredential=x:secret\nUser=yggdrasil'),
    '[Service]\nEnvironment=A=[redacted] D=[redacted]\nEnvironment=\nSetCredential=x=[redacted]\nUser=yggdrasil',
  );
});

test('lines of the log: without what workers wrote, without debug, and no foreign words', () => {
  const entry = (MESSAGE: unknown, PRIORITY = '6', SYSLOG_IDENTIFIER = 'yggd'): string =>
    JSON.stringify({ MESSAGE, PRIORITY, SYSLOG_IDENTIFIER, __REALTIME_TIMESTAMP: '1000000' });
  const json = (fields: object): string => JSON.stringify({ level: 'info', ...fields });
  const { lines, ofWorkers } = journalLines(
    [
      entry('ready  event=agent.ready clientId=x'),
      entry('secret  event=worker.output worker=w stream=stdout'),
      entry('tricky  event=agent.ready  event=worker.output worker=w'),
      entry('payload  event=router.trace', '7'),
      entry('given up: said secret  event=dispatcher.dead reason="said \\" secret" key=7', '4'),
      entry(json({ event: 'worker.output', text: 'secret' })),
      entry(json({ event: 'x.y', level: 'trace', text: 'secret' })),
      entry(json({ event: 'result.dead', text: 'a result: secret', key: 1 })),
      entry('{"event":"worker.output","text":"secr'),
      entry('2026-01-01T00:00:00.000Z INFO  secret  worker=w stream=stderr'),
      entry('2026-01-01T00:00:00.000Z TRACE secret'),
      entry('2026-01-01T00:00:00.000Z WARN  given up: secret  key=7', '4'),
      entry('yggd.service: Main process exited', '5', 'systemd'),
      entry([1, 2]),
      'no json',
      '',
    ].join('\n'),
  );
  assert.equal(ofWorkers, 4);
  assert.ok(!lines.join('\n').includes('secret'), lines.join('\n'));
  assert.deepEqual(lines, [
    '1970-01-01T00:00:01.000Z info ready  event=agent.ready clientId=x',
    '1970-01-01T00:00:01.000Z warn given up: …  event=dispatcher.dead reason=[left out] key=7',
    '1970-01-01T00:00:01.000Z info a result: …  event=result.dead key=1',
    '1970-01-01T00:00:01.000Z info [a line that was cut]',
    '1970-01-01T00:00:01.000Z warn 2026-01-01T00:00:00.000Z WARN  given up: …',
    '1970-01-01T00:00:01.000Z notice yggd.service: Main process exited',
    '1970-01-01T00:00:01.000Z info ',
  ]);
});
