// The import rules of the house (DESIGN section 3, rules 1 and 2), as errors.
const modules =
  'connection|datastore|router|processor|dispatcher|process|config|facts|log|broker|admin|metrics|worker|dbus|local|trace';
const ground = '^src/(message|signal|grpc)/|^src/(errors|time|crash-point)\\.ts$|^src/log/log\\.ts$|^protocol/';

const only = (name, packages, folders) => ({
  name: `only-${name}`,
  comment: `only ${folders.join(', ')} import ${packages.join(', ')}`,
  severity: 'error',
  from: { path: '^src/', pathNot: folders.map((f) => `^src/${f}/`) },
  to: { path: packages.map((p) => `node_modules/${p}/`) },
});

module.exports = {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'ground-imports-nothing',
      severity: 'error',
      from: { path: '^src/(message|signal|grpc)/|^src/(errors|time|crash-point)\\.ts$' },
      to: { path: '^src/', pathNot: ground },
    },
    {
      name: 'message-and-signal-stand-alone',
      severity: 'error',
      from: { path: '^src/(message|signal)/' },
      to: { path: '^src/', pathNot: '^src/$1/' },
    },
    {
      name: 'no-siblings',
      comment: 'a module declares the port it needs; agent.ts hands the part in',
      severity: 'error',
      from: { path: `^src/(${modules})/` },
      to: { path: '^src/', pathNot: [ground, '^src/$1/'] },
    },
    {
      name: 'nobody-imports-the-agent',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/(cli/|index\\.ts$|agent/)' },
      to: { path: '^src/(agent\\.ts$|cli/|index\\.ts$)' },
    },
    {
      name: 'shipped-workers-use-protocol-and-sdk',
      severity: 'error',
      from: { path: '^workers/' },
      to: { path: '^src/', pathNot: '^src/worker/' },
    },
    {
      name: 'protocol-imports-nothing',
      severity: 'error',
      from: { path: '^protocol/' },
      to: { path: '^(src|workers|test)/' },
    },
    only('mqtt', ['mqtt', 'mqtt-packet', 'ws'], ['connection']),
    only('undici', ['undici'], ['processor']),
    only('grpc', ['@grpc/grpc-js'], ['dispatcher', 'worker', 'admin', 'grpc']),
    only('store', ['lokijs', 'lmdb'], ['datastore']),
    only('chokidar', ['chokidar'], ['process']),
    only('toml', ['smol-toml'], ['config']),
    only('aedes', ['aedes'], ['broker']),
    only('pino', ['pino'], ['log']),
    only('koffi', ['koffi'], ['cli', 'dbus', 'dispatcher', 'process']),
    only('dbus', ['dbus-native'], ['dbus']),
    only('opentelemetry', ['@opentelemetry/api'], ['metrics']),
    {
      name: 'only-process-spawns',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/(process|cli)/|^src/worker/program\\.ts$' },
      to: { path: '^(node:)?child_process$' },
    },
    { name: 'resolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    exclude: { path: '^(dist|coverage)/' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default', 'types'],
    },
  },
};
