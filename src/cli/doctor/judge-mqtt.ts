/** What a broker says over MQTT: whether it lets us in, what it allows, how fast it is, and how much it holds for us. */
import type { MqttLook, MqttSeen } from '../../connection/index.js';
import type { BrokerLook } from './broker-look.js';
import { checkOf, type Finding } from './finding.js';
import { apart } from './judge-broker.js';
import { median, within } from './words.js';

export interface MqttContext {
  /** Of the agent; undefined where it is not known. */
  readonly clientId: string | undefined;
  /** Whether the agent of this machine is connected. */
  readonly isAgentUp: boolean;
  /** Whether an agent runs here at all; undefined where that is not known. */
  readonly isAgentHere: boolean | undefined;
  readonly settings: { readonly retainStatus: boolean; readonly maxMessageSize: number };
}

export function judgeMqtt(look: BrokerLook, context: MqttContext): readonly Finding[] {
  const { mqtt, address } = look;
  if (mqtt === undefined)
    return [
      checkOf('broker.mqtt', address.text).skipped(
        'not asked, since the way to it or the credentials cannot be used: see above',
      ),
    ];
  if (mqtt.kind === 'failed') return [refused(address.text, mqtt, context)];
  const { seen } = mqtt;
  return [
    checkOf('broker.mqtt', address.text).ok(`MQTT ${seen.version}, let in after ${within(seen.took)}`),
    ...judgeRules(address.text, seen, context),
    judgeRoundTrip(address.text, seen),
    ...judgeLimits(address.text, seen, context),
    judgeBacklog(address.text, seen),
    ...judgeSession(address.text, seen, context),
  ];
}

function refused(
  about: string,
  { failure }: Extract<MqttLook, { kind: 'failed' }>,
  { isAgentUp }: MqttContext,
): Finding {
  const check = checkOf('broker.mqtt', about);
  const [seen, todo] = apart(failure.reason);
  if (!isAgentUp) return check.failed(seen, todo);
  return check.skipped(
    `${seen}; but the agent is connected`,
    'its rules may be for the agent’s client id alone: allow client ids that begin with ygg-doctor- to see more',
  );
}

const REFUSED = 0x80;
const NOT_AUTHORISED = 0x87;
const NO_SUBSCRIBERS = 0x10;

function judgeRules(about: string, seen: MqttSeen, { clientId, isAgentUp }: MqttContext): readonly Finding[] {
  const check = checkOf('broker.rules', about);
  if (clientId === undefined)
    return [check.skipped('the agent has no client id yet, so its topics are not known', 'start it once')];
  const closed = seen.subscriptions.filter(({ code }) => code >= REFUSED).map(({ topic }) => topic);
  const findings: Finding[] = [];
  if (closed.length > 0) {
    const what = `the subscription to ${closed.join(' and ')} is refused`;
    findings.push(
      isAgentUp
        ? check.skipped(
            `${what} to this user under another client id; the agent has it`,
            'nothing, if the broker’s rules go by client id',
          )
        : check.failed(what, `allow it in the broker’s rules, or check \`client-id\` and \`topic-prefix\``),
    );
  }
  const { out } = seen;
  if (out.kind === 'cut' || (out.code !== 0 && out.code !== NO_SUBSCRIBERS)) {
    const why =
      out.kind === 'cut'
        ? 'it ends the connection'
        : out.code === NOT_AUTHORISED
          ? 'not authorised'
          : `code 0x${out.code.toString(16)}`;
    findings.push(
      check.failed(
        `the broker takes nothing from this user for ${clientId}’s data/out (${why}): no answer would arrive`,
        'allow writing to control/out and data/out in the broker’s rules; where they go by client id, look at the agent’s dead messages instead',
      ),
    );
  }
  if (findings.length > 0) return findings;
  const wrote =
    seen.version === '5' ? ', data/out may be written' : '; over MQTT 3.1.1 a refused publication may not be told';
  return [
    check.ok(
      `subscriptions to control/in and data/in are granted${wrote}. mosquitto’s acl_file grants every subscription and drops what its rules forbid: \`ygg ping ${clientId}\` from an operator’s account shows it`,
    ),
  ];
}

/** How much longer than a bare answer: the kernel holds back a second small packet for 40 ms at least. */
const DELAYED_MS = 25;
const SLOW_MS = 1_000;

function judgeRoundTrip(about: string, { pings, pairs, echo }: MqttSeen): Finding {
  const check = checkOf('broker.round-trip', about);
  // The first packets of a connection are acknowledged at once by the kernel; it waits from then on.
  const settled = pairs.took.slice(-8);
  const ping = median(pings);
  const both = median(settled);
  const what = pairs.of === 'messages' ? 'for two messages at QoS 1' : 'for two pings';
  const numbers = `${within(both)} ${what} (median of ${settled.length}, ${within(Math.min(...settled))} to ${within(Math.max(...settled))}), ${within(ping)} for one ping`;
  // The faster ones of each: a machine under load is slow now and then, and the kernel's wait is there nearly each time.
  if (lowerQuartile(settled) - lowerQuartile(pings) >= DELAYED_MS)
    return check.warning(
      `${numbers}: the broker waits for the kernel before it sends a second small packet`,
      'turn that off at the broker: `set_tcp_nodelay true` in mosquitto.conf, or what your broker calls no-delay',
    );
  if (both >= SLOW_MS)
    return check.warning(`${numbers}: slow`, 'check the load of the broker, and the network with `ping` and `mtr`');
  return check.ok(`${numbers}${ECHOES[echo]}`);
}

function lowerQuartile(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 4)] ?? Infinity;
}

const ECHOES: Readonly<Record<MqttSeen['echo'], string>> = {
  back: '; a message to a topic of our own came back',
  silent: '; a message to a topic of our own did not come back, which the agent does not need',
  refused: '; a topic of our own is refused, which the agent does not need',
  cut: '; a topic of our own is refused, which the agent does not need',
};

/** What an agent asks for and some brokers do not give. */
function judgeLimits(about: string, { version, limits }: MqttSeen, { settings }: MqttContext): readonly Finding[] {
  const check = checkOf('broker.limits', about);
  if (version !== '5')
    return [check.skipped('MQTT 3.1.1: the broker tells no limits', 'let it speak MQTT 5, if it can')];
  const { receiveMaximum, maximumPacketSize, topicAliasMaximum, maximumQos, isRetainAvailable, serverKeepalive } =
    limits;
  const findings: Finding[] = [];
  if (maximumQos === 0)
    findings.push(check.failed('it takes QoS 0 only', 'allow QoS 1: no promise of the agent holds without it'));
  if (!isRetainAvailable && settings.retainStatus)
    findings.push(
      check.warning(
        'it keeps no retained messages: nobody sees the state of an agent who was not listening when it was told',
        'allow them at the broker, or set `mqtt-retain-status = false`',
      ),
    );
  if (maximumPacketSize !== undefined && maximumPacketSize < settings.maxMessageSize)
    findings.push(
      check.warning(
        `it takes packets of ${maximumPacketSize} bytes at most; \`max-message-size\` is ${settings.maxMessageSize}: larger results end dead`,
        'raise the broker’s maximum packet size, or let workers answer less',
      ),
    );
  const told = [
    `receive maximum ${receiveMaximum ?? '65535 (unsaid)'}`,
    `maximum packet size ${maximumPacketSize ?? 'unsaid'}`,
    `topic alias maximum ${topicAliasMaximum ?? 0}`,
    `maximum QoS ${maximumQos ?? 2}`,
    `retained messages ${isRetainAvailable ? 'kept' : 'not kept'}`,
    ...(serverKeepalive === undefined ? [] : [`keepalive ${serverKeepalive} s`]),
  ].join(', ');
  return findings.length > 0 ? [...findings, check.ok(told)] : [check.ok(told)];
}

function judgeBacklog(about: string, { backlog }: MqttSeen): Finding {
  const check = checkOf('broker.queue', about);
  const settings =
    'in mosquitto.conf: `max_queued_messages 0` and `max_inflight_messages 0` (0 is no limit), or what your broker calls them';
  if (backlog === undefined)
    return check.skipped(
      'the broker does not send us what we publish ourselves, so its queue cannot be measured',
      `look ${settings}`,
    );
  const { sent, inFlight, kept } = backlog;
  if (kept < sent)
    return check.failed(
      `of ${sent} messages that waited for one client, the broker dropped ${sent - kept} without a word`,
      `let it keep more, ${settings}`,
    );
  if (inFlight < sent)
    return check.warning(
      `it sends ${inFlight} messages before the first is acknowledged, and no more: an agent with much to do waits for the network`,
      `let it send more, ${settings}`,
    );
  return check.ok(`${sent} messages at once, none dropped; more was not tried (--backlog N)`);
}

function judgeSession(
  about: string,
  { status }: MqttSeen,
  { clientId, isAgentUp, isAgentHere }: MqttContext,
): readonly Finding[] {
  const check = checkOf('broker.client-id', about);
  if (clientId === undefined) return [];
  const state = stateOf(status);
  if (isAgentUp) return [check.ok(`${clientId}: in use by the agent of this machine`)];
  if (state === undefined)
    return [
      check.skipped(
        `${clientId}: no status of it is retained, or this user may not read it; whether another client uses the id cannot be asked without taking its place`,
      ),
    ];
  if (state === 'online' && isAgentHere !== undefined)
    return [
      check.warning(
        `${clientId} is told to be on line, but the agent of this machine is not connected`,
        'look for another machine with this client id (a copied disk?): each needs its own. If the agent has just died, its will comes in a few seconds',
      ),
    ];
  return [check.ok(`${clientId}: told to be ${state === 'online' ? 'on line' : 'off line'}`)];
}

/** `online` or `offline` in a connection-status; undefined for anything else. */
function stateOf(status: Buffer | undefined): 'online' | 'offline' | undefined {
  if (status === undefined) return undefined;
  try {
    const envelope: unknown = JSON.parse(status.toString('utf8'));
    const content = isObject(envelope) ? envelope['content'] : undefined;
    const state = isObject(content) ? content['state'] : undefined;
    return state === 'online' || state === 'offline' ? state : undefined;
  } catch {
    // Somebody else's message.
    return undefined;
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}
