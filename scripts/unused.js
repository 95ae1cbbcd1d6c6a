/**
 * What bundles leave out: native packages, which stay in node_modules, and packages that others name but that we never
 * come to use. A start reads, and memory holds, what is in a bundle, used or not.
 */

/** Native, wanted only by a package that does without, or there only where the program that embeds the agent has it. */
export const native = ['lmdb', 'koffi', 'bufferutil', 'utf-8-validate', '@opentelemetry/api'];

/** Package → who names it, and why that code is never reached. Each becomes a module without anything. */
const UNUSED = {
  '@grpc/proto-loader': 'grpc-js, for channelz and ORCA alone, which nobody here registers',
  'msgpackr-extract': 'msgpackr, which lmdb would use for values that are not binary; ours are',
  socks: 'mqtt, when it opens its own socket; ours is handed in (src/connection/transport.ts)',
  xml2js: 'dbus-native, to read what a service says of itself; we know what we call (src/dbus)',
  'thread-stream': 'pino, for transports in a worker thread; ours writes by itself (src/log)',
};

/** `debug` writes for developers of mqtt, some twenty times a packet; the agent has a log of its own. */
const QUIET = 'const quiet = () => {}; module.exports = () => quiet;';

const plugin = {
  name: 'unused',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: new RegExp(`^(${Object.keys(UNUSED).join('|')})(/|$)`) }, ({ path }) => ({
      path,
      namespace: 'unused',
    }));
    onLoad({ filter: /./, namespace: 'unused' }, () => ({ contents: 'module.exports = undefined;', loader: 'js' }));
    onResolve({ filter: /^debug$/ }, ({ path }) => ({ path, namespace: 'quiet' }));
    onLoad({ filter: /./, namespace: 'quiet' }, () => ({ contents: QUIET, loader: 'js' }));
  },
};

/** Options for esbuild. readable-stream is a copy of Node's own streams, for browsers and for old Node. */
export const withoutUnused = { plugins: [plugin], alias: { 'readable-stream': 'node:stream' } };
