/**
 * Datagrams to systemd's notification socket. Node has no Unix datagrams, so libc is called through koffi, an optional
 * dependency that is loaded only here and only when there is a socket to speak to. A send never blocks the event loop.
 */
import { endianness } from 'node:os';
import { errorText } from '../errors.js';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const EAGAIN = 11;
/** sockaddr_un.sun_path, unix(7). */
const LONGEST_PATH = 107;

export type SendOutcome =
  { readonly kind: 'sent' } | { readonly kind: 'busy' } | { readonly kind: 'failed'; readonly errno: number };

export interface DatagramSocket {
  /** Sends one datagram; `busy` means that the receiver's queue is full and it may be tried again. */
  send(text: string): SendOutcome;
  /** Releases the descriptor. */
  close(): void;
}

export type OpenOutcome =
  | { readonly kind: 'open'; readonly socket: DatagramSocket }
  | { readonly kind: 'unavailable'; readonly reason: string };

/** Opens a socket that sends to `address`: an absolute path, or `@name` for an abstract one (sd_notify(3)). */
export async function openDatagramSocket(address: string): Promise<OpenOutcome> {
  const target = sockaddr(address);
  if (target === undefined) return { kind: 'unavailable', reason: `NOTIFY_SOCKET is no Unix socket: ${address}` };
  try {
    const { load, errno } = (await import('koffi')).default;
    const libc = load(null);
    const socket = libc.func('int socket(int domain, int type, int protocol)');
    const sendto = libc.func(
      'intptr_t sendto(int fd, const void *bytes, size_t size, int flags, const void *address, uint32_t length)',
    );
    const close = libc.func('int close(int fd)');
    const fd = Number(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (fd < 0) return { kind: 'unavailable', reason: `cannot open a datagram socket: errno ${errno()}` };
    return {
      kind: 'open',
      socket: {
        send(text) {
          const bytes = Buffer.from(text);
          const sent = Number(sendto(fd, bytes, bytes.length, MSG_DONTWAIT | MSG_NOSIGNAL, target, target.length));
          if (sent >= 0) return { kind: 'sent' };
          const number = errno();
          return number === EAGAIN ? { kind: 'busy' } : { kind: 'failed', errno: number };
        },
        close: () => void close(fd),
      },
    };
  } catch (error) {
    return { kind: 'unavailable', reason: `koffi cannot be loaded: ${errorText(error)}` };
  }
}

/** The bytes of a sockaddr_un, or undefined where `address` names none. */
function sockaddr(address: string): Buffer | undefined {
  const path = Buffer.from(address);
  if (path.length < 2 || path.length > LONGEST_PATH || path.includes(0)) return undefined;
  const family = Buffer.alloc(2);
  if (endianness() === 'LE') family.writeUInt16LE(AF_UNIX);
  else family.writeUInt16BE(AF_UNIX);
  // An abstract name begins with a zero byte and ends with the length, a path ends with a zero byte.
  if (address.startsWith('@')) return Buffer.concat([family, Buffer.alloc(1), path.subarray(1)]);
  if (address.startsWith('/')) return Buffer.concat([family, path, Buffer.alloc(1)]);
  return undefined;
}
