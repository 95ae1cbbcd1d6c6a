/** The connection to a D-Bus: a real bus with others on it, and peers that do not behave. */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { Bus, type BusSignal } from '../../src/dbus/index.js';
import { openByLibc, openSocket } from '../../src/dbus/socket.js';
import { AgentError } from '../../src/errors.js';
import { dbusMissing, startServices } from '../support/machine-services.js';
import { tempDir } from '../support/temp.js';

const skip = dbusMissing;
const execute = promisify(execFile);
const MANAGER = {
  destination: 'org.freedesktop.systemd1',
  path: '/org/freedesktop/systemd1',
  interface: 'org.freedesktop.systemd1.Manager',
};

function codeOf(code: string, message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof AgentError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    return true;
  };
}

test(
  'a call is answered, refused by name, and ended by its scope; the bus can be left and met again',
  { skip },
  async () => {
    await using machine = await startServices({ services: ['systemd'] });
    for (let round = 0; round < 20; round++) {
      const scope = new AbortController();
      await using bus = await Bus.connect({ address: machine.address, answerWithin: 10_000, scope: scope.signal });
      const unit = await bus.call({ ...MANAGER, member: 'LoadUnit', signature: 's', body: ['yggd.service'] });
      assert.deepEqual(unit, ['/org/freedesktop/systemd1/unit/yggd_2eservice']);
      const at = {
        destination: MANAGER.destination,
        path: String(unit[0]),
        interface: 'org.freedesktop.systemd1.Unit',
      };
      assert.equal(await bus.property(at, 'ActiveState'), 'inactive');
      await assert.rejects(bus.call({ ...MANAGER, member: 'Nothing' }), codeOf('dbus.refused', /Nothing/));
      await assert.rejects(
        bus.call({ ...MANAGER, destination: 'com.example.Nobody', member: 'X' }),
        (error) => error instanceof AgentError && error.details['name'] === 'org.freedesktop.DBus.Error.ServiceUnknown',
      );
      scope.abort(new Error('enough'));
      await assert.rejects(bus.call({ ...MANAGER, member: 'Reload' }), /enough/);
    }
  },
);

test('a signal counts only from the owner of the name, and not after the scope', { skip }, async () => {
  await using machine = await startServices({ services: ['systemd'] });
  const never = new AbortController().signal;
  await using bus = await Bus.connect({ address: machine.address, answerWithin: 10_000, scope: never });
  await using other = await Bus.connect({ address: machine.address, answerWithin: 10_000, scope: never });
  const heard: BusSignal[] = [];
  const listening = new AbortController();
  let first = (): void => undefined;
  const came = new Promise<void>((resolve) => (first = resolve));
  await bus.listen(
    { ...MANAGER, member: 'JobRemoved' },
    (signal) => {
      heard.push(signal);
      first();
    },
    listening.signal,
  );
  // Somebody else says the same, to all and to us alone.
  const said = ['uint32:9', 'objpath:/x', 'string:yggd.service', 'string:done'];
  const send = (to: readonly string[]): Promise<unknown> =>
    execute('dbus-send', [
      ...[`--bus=${machine.address}`, ...to, '--type=signal', MANAGER.path, `${MANAGER.interface}.JobRemoved`, ...said],
    ]);
  await send([]);
  // The stand-ins came first, we second.
  await send(['--dest=:1.1']);
  await other.call({ ...MANAGER, member: 'Subscribe' });
  await other.call({ ...MANAGER, member: 'StopUnit', signature: 'ss', body: ['yggd.service', 'replace'] });
  await came;
  assert.deepEqual(
    heard.map(({ body }) => body),
    [[1, '/org/freedesktop/systemd1/job/1', 'yggd.service', 'done']],
  );
  listening.abort();
});

/** A peer that answers as `behave` does. */
async function withPeer(behave: (socket: Socket) => void, use: (address: string) => Promise<void>): Promise<void> {
  await using dir = await tempDir();
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    behave(socket);
  });
  server.listen(`${dir.path}/peer`);
  await once(server, 'listening');
  try {
    await use(`unix:path=${dir.path}/peer`);
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
  }
}

test(
  'a peer that is silent, refuses, talks nonsense or hangs up costs its deadline and no more',
  { skip },
  async () => {
    const scope = new AbortController().signal;
    const rounds: readonly (readonly [(socket: Socket) => void, string, RegExp])[] = [
      [() => undefined, 'dbus.no_answer', /did not answer .* within 0\.2 s/],
      [
        (socket) => socket.on('data', () => socket.write('REJECTED EXTERNAL\r\n')),
        'dbus.unavailable',
        /authentication/,
      ],
      [(socket) => socket.end(), 'dbus.unavailable', /connection ended/],
      [
        (socket) => socket.on('data', () => socket.write(`OK 00\r\n${'nonsense'.repeat(9)}`)),
        'dbus.unavailable',
        /byte order/,
      ],
      [
        (socket) =>
          socket.on('data', () =>
            socket.write(Buffer.concat([Buffer.from('OK 00\r\nl\x02\x00\x01'), Buffer.alloc(12, 0xff)])),
          ),
        'dbus.unavailable',
        /maximum size/,
      ],
    ];
    for (const [behave, code, message] of rounds) {
      // Only the silent one costs its deadline: what comes at once must not be overtaken by it on a busy machine.
      const answerWithin = code === 'dbus.no_answer' ? 200 : 30_000;
      await withPeer(behave, async (address) => {
        await using peer = await Bus.connect({ address, isPeer: true, answerWithin, scope });
        await assert.rejects(peer.call({ ...MANAGER, member: 'Reload' }), codeOf(code, message));
        // The next one does not wait for what cannot come any more.
        await assert.rejects(peer.call({ ...MANAGER, member: 'Reload' }), codeOf(code, message));
      });
    }
    await withPeer(
      (socket) => socket.end(),
      async (address) => {
        await assert.rejects(
          Bus.connect({ address, answerWithin: 30_000, scope }),
          codeOf('dbus.unavailable', /refuses us/),
        );
      },
    );
    await assert.rejects(
      Bus.connect({ address: 'tcp:host=x', answerWithin: 200, scope }),
      codeOf('dbus.unavailable', /names no socket/),
    );
  },
);

test('abstract sockets of other programs are reached, by Node or by libc', { skip }, async () => {
  const name = `yggdrasil test ${process.pid}`;
  const lines = `import socket\ns=socket.socket(socket.AF_UNIX)\ns.bind('\\0${name}')\ns.listen(4)\nprint('up',flush=True)\nwhile True:\n  c,_=s.accept()\n  c.sendall(c.recv(99))\n  c.close()`;
  const other = spawn('/usr/bin/python3', ['-c', lines], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    await once(createInterface({ input: other.stdout }), 'line');
    for (const socket of [await openSocket({ kind: 'abstract', name }), await openByLibc(name)]) {
      socket.write('hello');
      const [answer] = (await once(socket, 'data')) as [Buffer];
      assert.equal(answer.toString(), 'hello');
      socket.destroy();
    }
    await assert.rejects(openByLibc(`${name}-not`), /cannot connect to the abstract socket/);
    await assert.rejects(openByLibc('x'.repeat(200)), /too long/);
  } finally {
    other.kill('SIGKILL');
    await once(other, 'exit');
  }
});
