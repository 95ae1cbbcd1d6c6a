/**
 * Socket addresses between agent and worker. The agent gives its own with a `unix:` prefix in YGG_SOCKET_ADDR, and
 * the worker's without one: an absolute path, or `@name` for an abstract socket (PROTOCOL section 2). Pure.
 */

/** What an address means: a file, an abstract name, or nothing that we know. */
export type SocketAddress =
  | { readonly kind: 'path'; readonly path: string; readonly target: string }
  | { readonly kind: 'abstract'; readonly target: string }
  | { readonly kind: 'unknown' };

/** Reads an address with or without its prefix. `target` is what grpc-js connects to or binds. */
export function parseSocketAddress(text: string): SocketAddress {
  if (text.startsWith('unix-abstract:')) return abstract(text.slice('unix-abstract:'.length));
  const bare = text.replace(/^unix:(\/\/(?=\/))?/, '');
  if (bare.startsWith('/')) return { kind: 'path', path: bare, target: `unix:${bare}` };
  if (bare.startsWith('@')) return abstract(bare.slice(1));
  return { kind: 'unknown' };
}

// grpc-js hands the text after `unix:` to node as a path, and node takes a leading NUL for an abstract name. Before
// Node 22 it pads the name to the full length, so there both ends must be such a Node (DEPENDENCIES, grpc-js).
function abstract(name: string): SocketAddress {
  return name === '' ? { kind: 'unknown' } : { kind: 'abstract', target: `unix:\0${name}` };
}
