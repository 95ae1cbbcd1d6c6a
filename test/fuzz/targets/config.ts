/** What operators write: TOML files, flags, variables, tags, units, and the files that prove who we are. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { checkCredentials } from '../../../src/config/credentials.js';
import { parseFlags } from '../../../src/config/flags.js';
import { loadSettings } from '../../../src/config/load.js';
import { describeProblem, didYouMean } from '../../../src/config/problem.js';
import { parseTags } from '../../../src/config/tags.js';
import { describeToml, parseToml } from '../../../src/config/toml-file.js';
import { formatDuration, formatSize, parseDuration, parseSize } from '../../../src/config/units.js';
import { loadWorkerSettings } from '../../../src/config/worker-settings.js';
import { resolveClientId } from '../../../src/config/client-id.js';
import { AgentError } from '../../../src/errors.js';
import { parseWorkerName } from '../../../src/message/index.js';
import { CORPUS, hostileText, jsonText, mutated, textExamples } from '../corpus.js';
import { assertReason, claim, LONGEST_REASON, SECRET, target, type Target } from '../target.js';

const CONFIGS = [
  'broker = ["mqtt://host:1883"]\nlog-level = "info"\nmqtt-keepalive = "30s"\nspool-limit = "1GiB"\n',
  `broker = "mqtts://ann:${SECRET}@host"\nusername = "ann"\ncert-file = "/x.pem"\nkey-file = "/y.pem"\ncontent-hosts = ["http://a:1"]\n`,
  'server = ["tcp://host"]\nprotocol = "mqtt"\npath-prefix = "redhat/insights"\nhttp-retries = 3\nunknown = 1\n[table]\na.b."c d" = 1\n',
];
const WORKERS = [
  `handlers = ["echo"]\nargs = ["-x"]\nconcurrency = 2\nstart-timeout = "5s"\nmemory-max = "64MiB"\n[env]\nA = "${SECRET}"\n`,
  `exec = "/usr/libexec/echo-worker --flag"\nprotocol = "grpc"\nenv = ["A=${SECRET}", "PATH=x", "B"]\n[features]\na = 1\n`,
];
const TAGS = [
  'a = "b"\nn = 1\nd = 2026-01-01\nbig = 123456789012345678\n"x y" = true\n',
  'a.b.c = 1\n',
  'm = """\nx = 1\n"""\ny = 2\n',
];
const TOML_PIECES = [
  'a = ',
  '[a]\n',
  '[[a]]\n',
  '"',
  '"""',
  "'''",
  '{',
  '}',
  '[',
  ']',
  ',',
  '=',
  '\n',
  '# x\n',
  '1',
  'inf',
  '0x_',
  '1979-05-27T07:32:00Z',
  'true',
  '.',
];

/** TOML that no person writes: pieces of its grammar in any order, and files with edits. */
const toml = (seeds: readonly string[]): fc.Arbitrary<string> =>
  fc.oneof(
    { weight: 4, arbitrary: hostileText(seeds, 16_384) },
    { weight: 2, arbitrary: fc.array(fc.constantFrom(...TOML_PIECES), { maxLength: 30 }).map((each) => each.join('')) },
    { weight: 2, arbitrary: jsonText.map((value) => `a = ${value}\nbroker = ${value}\n`) },
    {
      weight: 1,
      arbitrary: fc
        .tuple(fc.constantFrom('a.', 'a ', '[', '{a=', '"a".', '\t', '1,'), fc.nat(3_000))
        .map(([each, n]) => `x = 1\n${each.repeat(n)}`),
    },
  );
/** A file of the operator's own is no megabytes. */
const examples = textExamples.filter((text) => text.length <= 16_384);

const nameOfWorker = parseWorkerName('echo-worker');
claim(nameOfWorker !== undefined);

const pem = ['-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUfx\n-----END CERTIFICATE-----\n', 'ann:secret\n', '\n'];

/** An edit may put the secret into a setting that holds none and is shown: it is looked for where it belongs. */
function assertReasonAbout(setting: string, reason: string): void {
  assertReason(reason.includes(`\`${setting}\``) ? reason : reason.replaceAll(SECRET, 'x'), LONGEST_REASON * 2);
}

export const configTargets: readonly Target[] = [
  target('parseToml and its lines', {
    inputs: toml([...CONFIGS, ...WORKERS, ...TAGS]),
    examples,
    run: (text) => parseToml(text, 'x.toml'),
    judge: (file, text) => {
      if (file.kind === 'invalid') assertReason(describeProblem(file.problem));
      if (file.kind !== 'ok') return;
      for (const { key, value, line } of file.entries) {
        // What is told of a value with a secret in it is the caller's to decide.
        assertReason(describeToml(value).replaceAll(SECRET, ''));
        claim(line === undefined || (line >= 1 && line <= text.split('\n').length));
        claim(typeof key === 'string');
      }
    },
  }),
  target('parseTags', {
    inputs: toml(TAGS),
    examples,
    run: (text) => parseTags(text, 'tags.toml'),
    judge: (result) => {
      if (result.kind === 'invalid') for (const problem of result.problems) assertReason(problem);
      else for (const value of Object.values(result.tags)) assert.equal(typeof value, 'string');
    },
  }),
  target('loadWorkerSettings', {
    inputs: toml(WORKERS),
    examples,
    share: 0.5,
    run: (text) =>
      loadWorkerSettings({
        configDir: '/c',
        name: nameOfWorker,
        readText: () => Promise.resolve(text),
        listNames: () => Promise.resolve([]),
      }),
    judge: (result) => {
      const told = result.kind === 'invalid' ? result.problems : result.warnings;
      for (const each of told) assertReasonAbout('env', each);
      if (result.kind === 'invalid') return;
      for (const [name, value] of Object.entries(result.settings.env)) {
        assert.match(name, /^[A-Za-z_][A-Za-z0-9_]*$/);
        assert.doesNotMatch(name, /^(PATH|NODE_OPTIONS|YGG_.*|LD_.*)$/);
        claim(!value.includes('\0'));
      }
    },
  }),
  target('loadSettings', {
    inputs: fc.tuple(
      toml(CONFIGS),
      fc.array(
        hostileText(['--broker=mqtt://h', '--log-level', 'debug', '-broker', '--spool-limit=1x', '--help=no'], 300),
        { maxLength: 3 },
      ),
      hostileText(['info', 'mqtt://h,mqtts://i', '1h'], 300),
    ),
    examples: examples.map((text): [string, string[], string] => [text, [text], text]),
    share: 0.1,
    run: ([text, argv, variable]) =>
      loadSettings({
        argv: [...argv],
        env: { YGGD_MQTT_KEEPALIVE: variable, YGGD_CONTENT_HOSTS: variable, YGGD_X: variable },
        uid: 0,
        homedir: () => '/h',
        cwd: '/c',
        readText: () => Promise.resolve(text),
      }),
    judge: (result) => {
      if (result.kind === 'help' || result.kind === 'version') return;
      const problems = [...(result.kind === 'invalid' ? result.problems : []), ...result.warnings];
      for (const problem of problems) assertReasonAbout('broker', describeProblem(problem));
    },
  }),
  target('parseFlags', {
    inputs: fc.array(
      hostileText(
        ['--broker=mqtt://h', '--log-level', 'debug', '-broker', '--config', '--', '-', '-x', '--embedded-broker=1'],
        4_096,
      ),
      { maxLength: 5 },
    ),
    examples: examples.map((text) => [text, `--${text}`]),
    share: 0.05,
    run: (argv) => parseFlags(argv),
    judge: (flags) => {
      if (flags.kind === 'flags')
        for (const problem of flags.problems) assertReason(describeProblem(problem), LONGEST_REASON * 2);
    },
  }),
  target('parseDuration and parseSize', {
    inputs: fc.oneof(
      hostileText(['30s', '1h30m', '500ms', '1.5d', '16MiB', '64 KiB', '0', ' 1 gb ']),
      fc.double(),
      fc.nat(),
    ),
    examples: textExamples,
    share: 2,
    run: (value) => ({ span: parseDuration(value), bytes: parseSize(value) }),
    judge: ({ span, bytes }) => {
      claim(span === undefined || span >= 0);
      claim(bytes === undefined || bytes >= 0);
      if (span !== undefined && Number.isSafeInteger(span)) claim(parseDuration(formatDuration(span)) === span);
      if (bytes !== undefined && Number.isSafeInteger(bytes)) claim(parseSize(formatSize(bytes)) === bytes);
    },
  }),
  target('didYouMean', {
    inputs: hostileText(['log-levl', 'brokr', 'YGGD_LOG']),
    examples: textExamples,
    run: (word) => didYouMean(word, ['log-level', 'broker', 'mqtt-reconnect-delay-max', 'state-dir']),
    judge: (hint) => claim(hint.length < 60),
  }),
  target('certificates, keys and passwords', {
    inputs: fc.tuple(
      mutated(
        pem.map((text) => Buffer.from(text)),
        4_096,
      ),
      mutated(
        pem.map((text) => Buffer.from(text)),
        4_096,
      ),
    ),
    examples: Object.values(CORPUS).map((bytes): [Buffer, Buffer] => [bytes, bytes]),
    share: 0.1,
    run: ([one, other]) =>
      checkCredentials(
        {
          certFile: '/cert',
          keyFile: '/key',
          caRoot: ['/ca'],
          passwordFile: '/password',
          proxyCredentialsFile: '/proxy',
          addressPassword: undefined,
        },
        {
          readFile: (path) => Promise.resolve(path === '/password' || path === '/key' ? one : other),
          mode: () => Promise.resolve(0o600),
          now: 0,
        },
      ),
    judge: (result) => {
      const told = result.kind === 'invalid' ? result.problems : result.warnings;
      for (const problem of told) assertReason(describeProblem(problem));
    },
  }),
  target('a client id, from the setting or the certificate', {
    inputs: fc.tuple(hostileText(['host-1', '9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d', 'a/b', 'CN\nO=x']), fc.boolean()),
    examples: textExamples.map((text): [string, boolean] => [text, true]),
    run: async ([text, isConfigured]): Promise<string | Error> => {
      const given = { configured: isConfigured ? text : undefined, commonName: isConfigured ? undefined : text };
      try {
        return await resolveClientId({ ...given, stateDir: '/nowhere' });
      } catch (error) {
        claim(error instanceof AgentError);
        return error;
      }
    },
    judge: (outcome) => {
      if (outcome instanceof Error) assertReason(outcome.message);
      else assert.match(outcome, /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/);
    },
  }),
];
