/** One agent in a home of its own at a broker, and the operator who listens to it, for the tests of the built daemon. */
import type { Mosquitto } from './mosquitto.js';
import { Operator, type Heard } from './operator.js';
import { Home, Yggd } from './yggd.js';

export interface SceneOptions {
  readonly clientId: string;
  /** Of MQTT; default: what the agent takes by itself. */
  readonly version?: '5' | '3.1.1';
  /** Puts workers and files into place before the agent starts; default: the echo worker. */
  readonly prepare?: (home: Home) => Promise<void>;
  readonly flags?: readonly string[];
  /** The agent is up when these directives are told; default: none of them. */
  readonly directives?: readonly string[];
}

export class Scene implements AsyncDisposable {
  #yggd: Yggd | undefined;

  private constructor(
    readonly home: Home,
    readonly operator: Operator,
    private readonly flags: readonly string[],
  ) {}

  /** Resolves when the agent has told that it is online, with the directives asked for. */
  static async open(broker: Mosquitto, options: SceneOptions): Promise<Scene> {
    const { clientId, version, prepare = (home: Home) => home.addWorker('echo-worker'), directives = [] } = options;
    const flags = [`--broker=${broker.url}`, `--client-id=${clientId}`, ...(options.flags ?? [])];
    if (version !== undefined) flags.push(`--mqtt-version=${version}`);
    const scene = new Scene(await Home.make(), await Operator.connect(broker.url, clientId), flags);
    try {
      await prepare(scene.home);
      await scene.again();
      await scene.online(...directives);
      return scene;
    } catch (error) {
      await scene[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The agent's process: the last one that was started. */
  get yggd(): Yggd {
    if (this.#yggd === undefined) throw new Error('the agent has not been started');
    return this.#yggd;
  }

  /** The first status, heard or to come, that tells `online` with these directives. */
  online(...directives: readonly string[]): Promise<Heard> {
    return this.operator.status(
      ({ state, dispatchers }) => state === 'online' && directives.every((directive) => directive in dispatchers),
      `online with [${directives.join(', ')}]`,
    );
  }

  /** Starts the agent again, after its end. */
  async again(): Promise<void> {
    this.#yggd = Yggd.spawn({ home: this.home, args: this.flags });
    await this.#yggd.line('agent.ready');
  }

  /** A command and its answer: what the agent did about all control before it has been told by then. */
  async ping(): Promise<Heard> {
    return this.operator.answerTo(await this.operator.command('ping'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#yggd?.[Symbol.asyncDispose]();
    await this.operator[Symbol.asyncDispose]();
    await this.home[Symbol.asyncDispose]();
  }
}
