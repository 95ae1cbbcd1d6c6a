/**
 * How metrics are written: Prometheus' text format 0.0.4, and OpenMetrics 1.0 for who asks for it. The same names and
 * labels in both, so that a change of the scraper begins no new series. What labels hold is escaped.
 */
import { Count, Histogram, type Family, type Series } from './instruments.js';

export interface Format {
  readonly contentType: string;
  readonly isOpenMetrics: boolean;
}

export const TEXT: Format = { contentType: 'text/plain; version=0.0.4; charset=utf-8', isOpenMetrics: false };
export const OPEN_METRICS: Format = {
  contentType: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
  isOpenMetrics: true,
};

/** The versions of OpenMetrics that this is. */
const SPOKEN: ReadonlySet<string | undefined> = new Set([undefined, '0.0.1', '1.0.0']);

/** What an Accept header asks for: OpenMetrics when it stands there with no lower weight than plain text. */
export function formatFor(accept: string | undefined): Format {
  let open = 0;
  let text = 0;
  for (const range of (accept ?? '').split(',')) {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
    const of = (name: string): string | undefined =>
      parameters
        .find((each) => each.startsWith(`${name}=`))
        ?.slice(name.length + 1)
        .replaceAll('"', '');
    const asked = Number(of('q') ?? 1);
    const weight = asked >= 0 && asked <= 1 ? asked : 0;
    if (type === 'application/openmetrics-text') open = SPOKEN.has(of('version')) ? Math.max(open, weight) : open;
    else if (type === 'text/plain' || type === 'text/*' || type === '*/*') text = Math.max(text, weight);
  }
  return open > 0 && open >= text ? OPEN_METRICS : TEXT;
}

/** The whole document. A metric without a series is left out. */
export function render(families: readonly Family<Series>[], format: Format): string {
  const lines: string[] = [];
  for (const family of families) {
    const samples = [...family.series].flatMap((series) => samplesOf(family.declaration.name, family, series));
    if (samples.length === 0) continue;
    const { name, type, unit, help } = family.declaration;
    // In OpenMetrics the family of a counter has no `_total`; its samples do.
    const called = format.isOpenMetrics && type === 'counter' ? name.replace(/_total$/, '') : name;
    lines.push(`# HELP ${called} ${escapedHelp(help, format)}`, `# TYPE ${called} ${type}`);
    if (format.isOpenMetrics && unit !== undefined) lines.push(`# UNIT ${called} ${unit}`);
    for (const sample of samples) lines.push(sample);
  }
  if (format.isOpenMetrics) lines.push('# EOF');
  return `${lines.join('\n')}\n`;
}

function samplesOf(name: string, { declaration: { labels: names } }: Family<Series>, series: Series): string[] {
  const own = series.labels.map((value, index) => pair(names[index] ?? '', value));
  const line = (suffix: string, value: number, ...more: string[]): string => {
    const pairs = [...own, ...more];
    return `${name}${suffix}${pairs.length === 0 ? '' : `{${pairs.join(',')}}`} ${valueText(value)}`;
  };
  if (series instanceof Count) return [line('', series.value)];
  if (series instanceof Histogram) {
    const cumulative = series.cumulative;
    const le = [...series.bounds.map(numberText), '+Inf'];
    return [
      ...cumulative.map((count, index) => line('_bucket', count, pair('le', le[index] ?? '+Inf'))),
      line('_sum', series.sum),
      line('_count', cumulative.at(-1) ?? 0),
    ];
  }
  return [
    ...series.quantiles.map(([quantile, value]) => line('', value, pair('quantile', numberText(quantile)))),
    line('_sum', series.sum),
    line('_count', series.count),
  ];
}

function pair(name: string, value: string): string {
  const escaped = value.replace(/[\\"\n]/g, (letter) => (letter === '\n' ? '\\n' : `\\${letter}`));
  return `${name}="${escaped}"`;
}

/** Quotes are escaped in OpenMetrics only. */
function escapedHelp(help: string, { isOpenMetrics }: Format): string {
  const escaped = help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
  return isOpenMetrics ? escaped.replaceAll('"', '\\"') : escaped;
}

/** As a label: `1.0`, not `1`, which is what OpenMetrics wants. */
function numberText(value: number): string {
  return Number.isInteger(value) ? `${value}.0` : String(value);
}

function valueText(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  return Number.isFinite(value) ? String(value) : value > 0 ? '+Inf' : '-Inf';
}
