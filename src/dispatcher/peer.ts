/**
 * Who is at the other end of a Unix socket: the kernel's word (SO_PEERCRED, unix(7)), which no program can forge. Node
 * does not ask for it, so libc is called through koffi, an optional dependency: without it nobody is asked.
 */
import type { Socket } from 'node:net';
import { errorText } from '../errors.js';
import type { Log } from '../log/log.js';
import type { Clock, Millis } from '../time.js';
import type { Peer } from './ports.js';

/** These two numbers hold on every architecture Node runs on under Linux. */
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
/** struct ucred: pid, uid and gid, 32 bits each. */
const UCRED_SIZE = 12;

/** The process that connected, or that listens; undefined when the kernel does not tell. */
export type PeerReader = (socket: Socket) => Peer | undefined;

/** Loads koffi; undefined where there is none. */
export async function openPeerReader(log: Log): Promise<PeerReader | undefined> {
  try {
    const { load } = (await import('koffi')).default;
    const getsockopt = load(null).func(
      'int getsockopt(int fd, int level, int name, _Out_ uint8_t *value, _Inout_ uint32_t *size)',
    );
    return (socket) => {
      const fd = descriptorOf(socket);
      if (fd === undefined) return undefined;
      const value = Buffer.alloc(UCRED_SIZE);
      const size = [UCRED_SIZE];
      if (Number(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, value, size)) !== 0 || size[0] !== UCRED_SIZE)
        return undefined;
      const view = new Int32Array(value.buffer, value.byteOffset, UCRED_SIZE / 4);
      const [pid = 0, uid = 0] = view;
      // A uid has 32 bits without a sign.
      return { pid, uid: uid >>> 0 };
    };
  } catch (error) {
    log.debug('dispatcher.peers_unchecked', `who connects is not asked of the kernel: ${errorText(error)}`);
    return undefined;
  }
}

export interface DoorOptions {
  readonly read: PeerReader | undefined;
  /** Whether a process is the worker's. */
  readonly isPeer: (peer: Peer) => boolean;
  readonly clock: Clock;
  readonly log: Log;
}

/** A line each minute is enough to be found; whoever is turned away may knock a thousand times. */
const REFUSAL_INTERVAL: Millis = 60_000;

/** Lets through the sockets at whose other end the worker is; where nobody can be asked, all. */
export class Door {
  #quietUntil = -Infinity;
  #untold = 0;

  constructor(private readonly options: DoorOptions) {}

  /** Whether to go on with this socket. Says why not. */
  readonly admits = (socket: Socket): boolean => {
    const { read, isPeer } = this.options;
    if (read === undefined) return true;
    const peer = read(socket);
    if (peer !== undefined && isPeer(peer)) return true;
    this.#tell(peer);
    return false;
  };

  #tell(peer: Peer | undefined): void {
    const { clock, log } = this.options;
    const now = clock.monotonic();
    if (now < this.#quietUntil) {
      this.#untold += 1;
      return;
    }
    const who = peer === undefined ? 'somebody unknown' : `process ${peer.pid} of user ${peer.uid}`;
    const more = this.#untold === 0 ? '' : ` (and ${this.#untold} more since the last such line)`;
    const text = `${who} is not of this worker's processes: the connection was closed${more}`;
    log.warn('dispatcher.peer_refused', text, { ...peer });
    this.#quietUntil = now + REFUSAL_INTERVAL;
    this.#untold = 0;
  }
}

/** libuv's handle knows it; Node has no public name for it. */
function descriptorOf(socket: Socket): number | undefined {
  const handle: unknown = '_handle' in socket ? socket._handle : undefined;
  if (typeof handle !== 'object' || handle === null || !('fd' in handle)) return undefined;
  return typeof handle.fd === 'number' && handle.fd >= 0 ? handle.fd : undefined;
}
