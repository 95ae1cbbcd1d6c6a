/**
 * Opens a socket that a D-Bus address names. Node reaches abstract names from version 22 on; before, it pads them with
 * zeros, which makes another name of them, so libc connects and Node goes on with the descriptor (koffi, optional).
 */
import { endianness } from 'node:os';
import { connect, Socket } from 'node:net';
import { AgentError, errorText } from '../errors.js';
import type { BusSocket } from './address.js';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
/** sockaddr_un.sun_path less the zero byte that an abstract name begins with, unix(7). */
const LONGEST_NAME = 107;
const FIRST_NODE_WITH_ABSTRACT_NAMES = 22;

/** A connected stream. Rejects with what kept it from connecting. */
export async function openSocket(socket: BusSocket): Promise<Socket> {
  if (socket.kind === 'path') return connected(socket.path);
  const major = Number(process.versions.node.split('.')[0]);
  return major >= FIRST_NODE_WITH_ABSTRACT_NAMES ? connected(`\0${socket.name}`) : openByLibc(socket.name);
}

function connected(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.removeListener('error', reject);
      resolve(socket);
    });
  });
}

/** @internal Node 20 takes this way; exported for the tests of the others. */
export async function openByLibc(name: string): Promise<Socket> {
  const bytes = Buffer.from(name);
  if (bytes.length > LONGEST_NAME) throw new Error('the name of the abstract socket is too long');
  const family = Buffer.alloc(2);
  if (endianness() === 'LE') family.writeUInt16LE(AF_UNIX);
  else family.writeUInt16BE(AF_UNIX);
  const address = Buffer.concat([family, Buffer.alloc(1), bytes]);
  let koffi;
  try {
    koffi = (await import('koffi')).default;
  } catch (cause) {
    throw new AgentError(
      'dbus.unavailable',
      `Node ${process.versions.node} cannot reach an abstract socket without the package koffi (${errorText(cause)}): ` +
        `take Node ${FIRST_NODE_WITH_ABSTRACT_NAMES} or later`,
      {},
      { cause },
    );
  }
  const libc = koffi.load(null);
  const socket = libc.func('int socket(int domain, int type, int protocol)');
  const connectTo = libc.func('int connect(int fd, const void *address, uint32_t length)');
  const close = libc.func('int close(int fd)');
  const fd = Number(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (fd < 0) throw new Error(`cannot open a socket: errno ${koffi.errno()}`);
  if (Number(connectTo(fd, address, address.length)) !== 0) {
    const errno = koffi.errno();
    close(fd);
    throw new Error(`cannot connect to the abstract socket @${name}: errno ${errno}`);
  }
  return new Socket({ fd, readable: true, writable: true });
}
