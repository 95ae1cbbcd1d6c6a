/** What `ygg connect` and `ygg disconnect` do with their flags. Loaded when one of them is called, and no sooner. */
import { AgentError } from '../../errors.js';
import { endWithReader, Output } from '../output.js';
import { bringUp } from './bring-up.js';
import { Configuration } from './configuration.js';
import { enrolByCertificate, enrolByHand, enrolByRegistration, type EnrolContext, type Enrolled } from './enrol.js';
import { endBy, Interrupted, interruptible } from './interrupt.js';
import { leave } from './leave.js';
import { tellLink } from './link.js';
import { daemonGroup, Machine, requireRoot } from './machine.js';
import { askPassword, linesFrom, passwordFrom } from './password.js';
import type { Enrolment, Proof } from './registration.js';
import { makeRequest } from './request.js';
import { Steps } from './steps.js';
import { whileTelling } from './waiting.js';
import { keysOf, wayOf, type ConnectFlags, type Way } from './way.js';

export interface DisconnectFlags {
  readonly config?: string;
  readonly purge?: boolean;
  readonly timeout?: number;
  readonly json?: boolean;
}

export async function connect(flags: ConnectFlags): Promise<void> {
  const way = wayOf(flags);
  requireRoot('connect');
  endWithReader();
  const output = new Output();
  const steps = new Steps(output, flags.json === true);
  const configuration = await Configuration.read(flags.config);
  if (way.kind === 'request') {
    await request(way, configuration, output, flags.json === true);
    return;
  }
  await untilInterrupted((scope) =>
    steps.report(async () => {
      await using machine = new Machine(scope, flags.timeout);
      const group = (): Promise<number> => daemonGroup(flags.group, steps);
      const { clientId, hint, ...enrolled } = await enrol(way, machine, { flags, configuration, group, steps });
      const { file: configFile } = configuration;
      try {
        if (flags.start)
          await bringUp({ unit: () => machine.unit(), configFile, isChanged: enrolled.isChanged, steps });
      } catch (error) {
        if (hint !== undefined) steps.tell('key', hint, 'warning');
        throw error;
      }
      if (!flags.start && hint !== undefined) steps.tell('key', hint, 'warning');
      if (flags.start) await whileTelling('waiting for the broker', () => tellLink(enrolled.runtimeDir, steps, scope));
      return clientId === undefined ? {} : { client_id: clientId };
    }),
  );
}

export async function disconnect(flags: DisconnectFlags): Promise<void> {
  requireRoot('disconnect');
  endWithReader();
  const steps = new Steps(new Output(), flags.json === true);
  const configuration = await Configuration.read(flags.config);
  await untilInterrupted((scope) =>
    steps.report(async () => {
      await using machine = new Machine(scope, flags.timeout);
      const [unit, registration] = [() => machine.unit(), () => machine.registration()];
      await leave({ configuration, unit, registration, isPurge: flags.purge === true, steps });
      return {};
    }),
  );
}

async function enrol(
  way: Exclude<Way, { kind: 'request' }>,
  machine: Machine,
  context: EnrolContext,
): Promise<Enrolled> {
  switch (way.kind) {
    case 'certificate':
      return enrolByCertificate(way, context);
    case 'start':
      return enrolByHand(context);
    case 'registration': {
      const { flags } = context;
      return enrolByRegistration(
        flags.force === true,
        () => enrolmentOf(way, flags),
        await machine.registration(),
        context,
      );
    }
  }
}

async function enrolmentOf(way: Extract<Way, { kind: 'registration' }>, flags: ConnectFlags): Promise<Enrolment> {
  return {
    organization: way.organization,
    proof: await proofOf(way.by),
    server: way.server,
    environments: keysOf(flags.environment ?? []),
    contentTemplates: keysOf(flags.contentTemplate ?? []),
    isContentWanted: flags.enableContent === true,
    isForced: flags.force === true,
  };
}

async function proofOf(by: Extract<Way, { kind: 'registration' }>['by']): Promise<Proof> {
  if (by.kind === 'user') {
    const { username, passwordFile } = by;
    const question = `Password of ${username}: `;
    return {
      kind: 'user',
      username,
      password: await (passwordFile === undefined ? askPassword(question) : passwordFrom(passwordFile)),
    };
  }
  const keys = [...by.keys, ...(by.keyFile === undefined ? [] : keysOf(await linesFrom(by.keyFile)))];
  if (keys.length === 0) throw new AgentError('connect.usage', 'no activation key was given');
  return { kind: 'keys', keys };
}

/** The request alone goes to standard output, so that it can be piped to who signs it. */
async function request(
  way: Extract<Way, { kind: 'request' }>,
  configuration: Configuration,
  output: Output,
  isJson: boolean,
): Promise<void> {
  const made = await makeRequest(way, { configuration });
  const { clientId, keyFile, isKeyNew } = made;
  if (isJson)
    output.json({ client_id: clientId, key_file: keyFile, request_file: way.file ?? null, request: made.request });
  else if (way.file === undefined) output.bytes(Buffer.from(made.request));
  const where = way.file === undefined ? '' : ` ${way.file}`;
  process.stderr.write(
    `${isKeyNew ? 'a new key was made' : 'the key was kept'}: ${keyFile}; have the request${where} signed for the client id ${clientId}, then: ygg connect --cert FILE\n`,
  );
}

async function untilInterrupted(work: (scope: AbortSignal) => Promise<void>): Promise<void> {
  try {
    await interruptible(work);
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
    process.stderr.write('ygg: interrupted; ygg connect and ygg disconnect can be run again\n');
    endBy(error);
  }
}
