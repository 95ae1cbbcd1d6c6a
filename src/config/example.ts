/**
 * config.example.toml: every setting, commented out, with its doc line and its default. Made from the declarations;
 * a test compares the file with what this gives.
 */
import { type Place } from './place.js';
import { GROUPS, SETTING_NAMES, SETTINGS, settingOf, variableOf, type SettingName } from './settings.js';

const ROOT: Place = { isSystem: true, home: '/root', environment: {} };
const USER: Place = { isSystem: false, home: '~', environment: { XDG_RUNTIME_DIR: '$XDG_RUNTIME_DIR' } };

/** The default as TOML, as root and as another user; undefined where there is none. */
export function defaultTexts(name: SettingName): readonly [string, string] | readonly [undefined, undefined] {
  const { kind, fallback } = settingOf(name);
  const [asRoot, asUser] = [fallback(ROOT), fallback(USER)];
  const isNothing = asRoot === undefined || (Array.isArray(asRoot) && asRoot.length === 0);
  return isNothing ? [undefined, undefined] : [kind.toToml(asRoot), kind.toToml(asUser)];
}

/** What stands in the example for a setting without a default. */
const SAMPLES: Partial<Record<SettingName, string>> = {
  broker: '["mqtts://broker.example.com:8883"]',
  'client-id': '"my-machine"',
  username: '"agent"',
  'password-file': '"/etc/yggdrasil/password"',
  'cert-file': '"/etc/pki/consumer/cert.pem"',
  'key-file': '"/etc/pki/consumer/key.pem"',
  'ca-root': '["/etc/yggdrasil/ca.pem"]',
  'embedded-broker': '1883',
  'response-topics': '["answers/#"]',
  'facts-file': '"/etc/yggdrasil/facts.json"',
  'worker-user': '"ygg-worker"',
  'exclude-worker': '["echo-worker"]',
  'allowed-directives': '["echo"]',
  'data-host': '"content.example.com"',
  'content-hosts': '["content.example.com", "http://10.0.0.5:8080"]',
  'metrics-listen': '"127.0.0.1:9464"',
  'metrics-hosts': '["edge.example.com"]',
  proxy: '"http://proxy.example.com:3128"',
  'no-proxy': '["localhost", ".example.com"]',
  'proxy-credentials-file': '"/etc/yggdrasil/proxy-credentials"',
};

/** The text of config.example.toml. */
export function renderExample(): string {
  const sections = GROUPS.map((group) => {
    const names = SETTING_NAMES.filter((name) => SETTINGS[name].group === group);
    return `## ${group}\n\n${names.map(renderSetting).join('\n')}`;
  });
  return `# Settings of yggd, each with its default. Made by scripts/generate-docs.ts from src/config/settings.ts.
#
# This file is config.toml in config-dir, or what --config names. Each key is also a flag (--log-level debug) and an
# environment variable (${variableOf('log-level')}=debug); flags win over the environment, the environment over the file.
# A duration is a number of seconds or text such as "500ms", "30s", "1h30m"; a size is a number of bytes or text such
# as "64KiB", "16MiB". A relative path starts at the directory of the file it stands in.

${sections.join('\n\n')}
`;
}

function renderSetting(name: SettingName): string {
  const { doc } = settingOf(name);
  const [asRoot, asUser] = defaultTexts(name);
  if (asRoot === undefined) return `# ${doc} No default.\n# ${name} = ${SAMPLES[name] ?? '""'}\n`;
  const other = asUser === asRoot ? '' : ` As another user than root: ${asUser}.`;
  return `# ${doc}${other}\n# ${name} = ${asRoot}\n`;
}
