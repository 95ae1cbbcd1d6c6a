/** docs/metrics.md, made from the declarations. */
import { GROUPS, METRICS, type Declaration } from './catalogue.js';

const HEAD = `# Metrics and health

Made from src/metrics/catalogue.ts by \`npm run docs\`.

The agent measures nothing until it is told where to serve it:

    metrics-listen = "127.0.0.1:9464"                # or 9464, which is the same
    metrics-listen = "unix:/run/yggdrasil/metrics.sock"

Over TCP every local user may read what stands below: the names of workers and directives, how much there is to do, the
broker's address. Over a Unix socket (mode 0660) only the agent's own user and group may; its directory must be one that
nobody else can change.

> **An address that is not of 127.0.0.0/8 or ::1 can be read by everyone who reaches it.** There is no password and no
> TLS. Name one only where a firewall, or a network of its own, lets in your Prometheus and nobody else. The log says so at
> each start.

| path | answers |
| --- | --- |
| \`/metrics\` | Prometheus' text format 0.0.4, or OpenMetrics 1.0 where \`Accept\` asks for it |
| \`/healthz\` | 200 while the event loop answers and the journal can be written (or is still being opened), else 503 with the reasons. The journal is written at most once a second for it |
| \`/readyz\` | 200 when the journal and the sockets are open, the worker directory was read and the journal can be written, else 503 with the reasons. It tells the state of the connection besides; a broker that is away does not make the agent unready, since it goes on taking results |

All three are read with GET or HEAD and have no body; there is nothing else. Over TCP a request must name an address or \`localhost\` in \`Host\`, or a name listed in
\`metrics-hosts\`: so no web page can have a browser on this machine ask for it under a name of its own.

    scrape_configs:
      - job_name: yggdrasil
        static_configs:
          - targets: ["127.0.0.1:9464"]

[grafana-dashboard.json](grafana-dashboard.json) shows them, and [prometheus-alerts.yml](prometheus-alerts.yml) tells of what is wrong.

**Labels are bounded.** A directive has series of its own once a worker of this machine has registered it, up to 128; all
others, which anyone who may publish can make up, are counted under \`other\`. So a directive's very first messages, before
its worker ever registered, may stand under \`other\` as well. \`reason\` is a code of
[the protocol](protocol.md), never a text.

Counters begin at 0 with the process. What an agent kept from an earlier run has no times of stages that were measured
then; the whole time of a message counts from its arrival, by the wall clock.

`;

const TAIL = `
## Traces

A program that embeds the library and has registered a tracer provider with \`@opentelemetry/api\` (1.3 or later) before it starts the agent gets spans: \`receive\` (until
the message is on stable storage), \`dispatch\` (while its worker has it), \`publish\` or \`post\` (until the result was acknowledged). The package is an optional peer
dependency: it is loaded only when a provider was registered, and \`yggd\` itself registers none.

With or without a provider, \`traceparent\` and \`tracestate\` ([W3C Trace Context](https://www.w3.org/TR/trace-context/)) in a message's metadata reach its worker, as all metadata does, and are put into the metadata of
its answers, unless the worker gave them a \`traceparent\` of their own. A result that goes to a URL carries them as headers. Answers to messages without a \`traceparent\` are
not changed. Of each worker the last 1,024 such messages are known; an answer that comes later, or after a restart, carries none.
`;

export function renderMetrics(): string {
  const sections = GROUPS.map((group) => {
    const rows = Object.values<Declaration>(METRICS)
      .filter((metric) => metric.group === group)
      .map(({ name, type, unit, labels, help }) => {
        const cells = [`\`${name}\``, type, unit ?? '–', labels.map((label) => `\`${label}\``).join(', ') || '–', help];
        return `| ${cells.join(' | ')} |`;
      });
    return `## ${group}\n\n| metric | type | unit | labels | meaning |\n| --- | --- | --- | --- | --- |\n${rows.join('\n')}\n`;
  });
  return `${HEAD}${sections.join('\n')}${TAIL}`;
}
