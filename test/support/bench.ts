/** A broker, the directories of an agent, and the operator's end: what most tests of the whole program begin with. */
import { startMosquitto, type Mosquitto, type MosquittoOptions } from './mosquitto.js';
import { Operator } from './operator.js';
import { Home, Yggd, type YggdOptions } from './yggd.js';

/** Another program than the built daemon, or more in its environment. */
export type HowToSpawn = Pick<YggdOptions, 'env' | 'node' | 'program' | 'crashPoint'>;

export interface Bench extends AsyncDisposable {
  readonly broker: Mosquitto;
  readonly home: Home;
  readonly operator: Operator;
  /** Starts the daemon and waits for nothing; the bench ends it if the test has not. */
  spawn(args?: readonly string[], how?: HowToSpawn): Yggd;
  /** Starts the daemon and waits until it is ready; the bench ends it if the test has not. */
  start(args?: readonly string[], how?: HowToSpawn): Promise<Yggd>;
  /** Starts it and waits until the fleet was told of these handlers. */
  startWith(handlers: readonly string[], args?: readonly string[], how?: HowToSpawn): Promise<Yggd>;
  /** The status that names all these handlers. */
  handling(handlers: readonly string[]): Promise<void>;
}

const CLIENT_ID = 'host-1';

/** `await using bench = await makeBench()`. The operator's session outlives a restart of the broker. */
export async function makeBench(options: MosquittoOptions = {}): Promise<Bench> {
  const stack: AsyncDisposable[] = [];
  const release = async (): Promise<void> => {
    for (const each of stack.splice(0).reverse()) await each[Symbol.asyncDispose]();
  };
  try {
    const broker = await startMosquitto(options);
    stack.push(broker);
    const home = await Home.make();
    stack.push(home);
    const operator = await Operator.connect(broker.url, CLIENT_ID, {
      clientId: 'operator',
      clean: false,
      properties: { sessionExpiryInterval: 3600 },
      reconnectPeriod: 50,
    });
    stack.push(operator);
    const launch = (args: readonly string[] = [], how: HowToSpawn = {}): Yggd => {
      // A broker that the test names takes the place of the bench's: a proxy before it, or a list.
      const door = args.some((arg) => arg.startsWith('--broker=')) ? [] : [`--broker=${broker.url}`];
      const yggd = Yggd.spawn({ home, args: [`--client-id=${CLIENT_ID}`, ...door, ...args], ...how });
      stack.push(yggd);
      return yggd;
    };
    const start: Bench['start'] = async (args, how) => {
      const yggd = launch(args, how);
      await yggd.line('agent.ready');
      return yggd;
    };
    const handling = async (handlers: readonly string[]): Promise<void> => {
      await operator.status(
        ({ dispatchers }) => handlers.every((handler) => handler in dispatchers),
        `a status with ${handlers.join(', ')}`,
      );
    };
    return {
      broker,
      home,
      operator,
      spawn: launch,
      start,
      startWith: async (handlers, args, how) => {
        const yggd = await start(args, how);
        await handling(handlers);
        return yggd;
      },
      handling,
      [Symbol.asyncDispose]: release,
    };
  } catch (error) {
    await release();
    throw error;
  }
}
