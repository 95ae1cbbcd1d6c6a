/**
 * What an installation consists of and where it lies: shared by install-system, uninstall-system and their tests.
 * Paths here are those of the target machine; DESTDIR is put in front only when a file is touched.
 */
import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { isAbsolute, join, normalize } from 'node:path';
import process from 'node:process';

export const MANIFEST = 'install-manifest.json';

/** Reads --prefix DIR, --node PATH and DESTDIR. Throws an error for a person when one is wrong. */
export function optionsFrom(args, environment) {
  const options = { prefix: '/usr/local', node: process.execPath, destdir: environment.DESTDIR ?? '' };
  const rest = args.flatMap((argument) => (argument.startsWith('--') ? argument.split(/=(.*)/su, 2) : [argument]));
  while (rest.length > 0) {
    const flag = rest.shift();
    if (flag !== '--prefix' && flag !== '--node')
      throw new Error(`unknown argument: ${flag}; known: --prefix DIR, --node PATH`);
    const value = rest.shift();
    if (value === undefined || !isAbsolute(value)) throw new Error(`${flag} wants an absolute path`);
    options[flag.slice(2)] = value;
  }
  if (options.destdir !== '' && !isAbsolute(options.destdir)) throw new Error('DESTDIR must be an absolute path');
  // A prefix stands in unit files, shebangs and shell: one word of plain letters saves quoting in three languages.
  for (const path of [options.prefix, options.node]) {
    if (!/^[\w/.+-]+$/u.test(path)) throw new Error(`use a path without blanks or special letters: ${path}`);
  }
  return { ...options, prefix: normalize(`${options.prefix}/`).slice(0, -1) || '/' };
}

/** Where things lie. systemd looks below /usr and /usr/local by itself; for another prefix they go to /etc. */
export function layoutOf(prefix) {
  const isSeen = prefix === '/usr' || prefix === '/usr/local';
  const vendor = (name) => (isSeen ? join(prefix, 'lib', name) : join('/etc', name));
  return {
    home: join(prefix, 'lib/yggdrasil'),
    bin: join(prefix, 'bin'),
    sbin: join(prefix, 'bin'),
    workers: join(prefix, 'libexec/yggdrasil'),
    units: vendor('systemd/system'),
    sysusers: vendor('sysusers.d'),
    tmpfiles: vendor('tmpfiles.d'),
    pkgconfig: join(prefix, 'share/pkgconfig'),
    man: join(prefix, 'share/man'),
    completions: {
      bash: join(prefix, 'share/bash-completion/completions'),
      zsh: join(prefix, 'share/zsh/site-functions'),
      fish: join(prefix, 'share/fish/vendor_completions.d'),
    },
    config: '/etc/yggdrasil/config.toml',
    workerConfigs: '/etc/yggdrasil/workers',
    manifest: join(prefix, 'lib/yggdrasil', MANIFEST),
  };
}

/** Puts values for @PREFIX@ and the like. */
export function fill(template, values) {
  return template.replace(/@([A-Z]+)@/gu, (whole, name) => values[name] ?? whole);
}

/** The unit for a machine where systemd cannot be told that the daemon is ready: no notification, no watchdog. */
export function withoutNotify(unit) {
  return unit.replace(/^Type=notify$/mu, 'Type=exec').replace(/^(?:NotifyAccess|WatchdogSec)=.*\n/gmu, '');
}

export function isScript(content) {
  return content.subarray(0, 2).toString() === '#!';
}

/** A script for Node with this node in its first line; anything else as it is, byte for byte. */
export function withShebang(content, node) {
  const first = /^#!.*\bnode\n/u.exec(content.subarray(0, 256).toString('latin1'));
  if (first === null) return content;
  return Buffer.concat([Buffer.from(`#!${node}\n`), content.subarray(first[0].length)]);
}

export function digestOf(bytes) {
  return createHash('sha256').update(bytes).digest('hex');
}

/** The manifest of an earlier installation, or an empty one. */
export async function readManifest(path) {
  const text = await readFile(path, 'utf8').catch((error) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  return text === undefined ? { files: {}, directories: [] } : JSON.parse(text);
}
