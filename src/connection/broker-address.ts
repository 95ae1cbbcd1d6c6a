/** A broker's address, taken apart: scheme, host, port, and the user that may stand in it (never shown). */
import { AgentError } from '../errors.js';
import { quoted, unescaped, urlFrom } from '../message/index.js';

export interface BrokerAddress {
  /** As it is shown and remembered: without user and password. */
  readonly text: string;
  readonly host: string;
  readonly port: number;
  readonly isTls: boolean;
  readonly isWebSocket: boolean;
  /** Path and query of a websocket. */
  readonly path: string;
  readonly username: string | undefined;
  readonly password: string | undefined;
}

interface Scheme {
  readonly port: number;
  readonly isTls: boolean;
  readonly isWebSocket: boolean;
}

const SCHEMES = new Map<string, Scheme>([
  ['mqtt:', { port: 1883, isTls: false, isWebSocket: false }],
  ['tcp:', { port: 1883, isTls: false, isWebSocket: false }],
  ['mqtts:', { port: 8883, isTls: true, isWebSocket: false }],
  ['ssl:', { port: 8883, isTls: true, isWebSocket: false }],
  ['ws:', { port: 80, isTls: false, isWebSocket: true }],
  ['wss:', { port: 443, isTls: true, isWebSocket: true }],
]);

/** Reads a broker's URL. Throws `config.invalid` for one that is none, or has another scheme. */
export function parseBrokerAddress(url: string): BrokerAddress {
  const parsed = urlFrom(url);
  const scheme = parsed === undefined ? undefined : SCHEMES.get(parsed.protocol);
  if (parsed === undefined || scheme === undefined || parsed.hostname === '')
    throw new AgentError(
      'config.invalid',
      `the broker ${quoted(withoutUser(url))} is not an address; write it as mqtt://host:port (or mqtts, ws, wss, tcp, ssl)`,
    );
  const host = parsed.hostname.replace(/^\[(.*)\]$/, '$1');
  const port = parsed.port === '' ? scheme.port : Number(parsed.port);
  const path = `${parsed.pathname === '' ? '/' : parsed.pathname}${parsed.search}`;
  return {
    ...scheme,
    text: `${parsed.protocol}//${parsed.hostname}:${port}${scheme.isWebSocket ? parsed.pathname : ''}`,
    host,
    port,
    path,
    username: parsed.username === '' ? undefined : unescaped(parsed.username),
    password: parsed.password === '' ? undefined : unescaped(parsed.password),
  };
}

/** The text of a URL without what stands before the last @: a password with a slash in it makes no URL, but is one. */
export function withoutUser(url: string): string {
  const at = url.lastIndexOf('@');
  if (at < 0) return url;
  const scheme = /^[a-z][a-z0-9+.-]{0,31}:\/\//i.exec(url)?.[0] ?? '';
  return scheme.length > at ? url : scheme + url.slice(at + 1);
}
