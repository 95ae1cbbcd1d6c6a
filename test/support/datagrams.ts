/** A receiver of Unix datagrams, in Python, since Node has none: it stands in for systemd's notification socket. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

const RECEIVER = `
import json, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
name = sys.argv[1]
s.bind('\\0' + name[1:] if name.startswith('@') else name)
print('bound', flush=True)
if sys.argv[2] == 'held':
    sys.stdin.readline()
while True:
    print(json.dumps(s.recv(65536).decode()), flush=True)
`;

export interface DatagramReceiver extends AsyncDisposable {
  /** The next datagram, past or future, in order. */
  next(): Promise<string>;
  /** Lets a receiver that was started `held` begin to read. */
  release(): void;
}

/** Binds `address` (a path, or `@name`); a held one reads nothing until it is released. */
export async function receiveDatagrams(address: string, isHeld = false): Promise<DatagramReceiver> {
  const child = spawn('/usr/bin/python3', ['-c', RECEIVER, address, isHeld ? 'held' : 'free'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<string> => {
    const line = await lines.next();
    if (line.done === true) throw new Error('the receiver of datagrams has ended');
    return line.value;
  };
  await next();
  return {
    next: async () => String(JSON.parse(await next())),
    release: () => void child.stdin.write('\n'),
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await exited;
    },
  };
}
