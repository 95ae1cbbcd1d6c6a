/** What a check of `ygg doctor` comes to: how it stands, what was seen, and what to do. */

export const OUTCOMES = ['ok', 'warning', 'failed', 'skipped'] as const;
export type Outcome = (typeof OUTCOMES)[number];

export interface Finding {
  /** `area.what`, the same in all versions. */
  readonly check: string;
  /** What was looked at: an address, a path, a worker; empty for the machine as a whole. */
  readonly about: string;
  readonly outcome: Outcome;
  /** A sentence. Never a secret. */
  readonly seen: string;
  /** A sentence, or nothing where there is nothing to do. */
  readonly todo: string;
}

/** Makes findings of one check. */
export interface Check {
  readonly ok: (seen: string) => Finding;
  readonly warning: (seen: string, todo: string) => Finding;
  readonly failed: (seen: string, todo: string) => Finding;
  /** It could not be looked at; `todo` says how it could be. */
  readonly skipped: (seen: string, todo?: string) => Finding;
}

export function checkOf(check: string, about = ''): Check {
  const make =
    (outcome: Outcome) =>
    (seen: string, todo = ''): Finding => ({ check, about, outcome, seen, todo });
  return { ok: make('ok'), warning: make('warning'), failed: make('failed'), skipped: make('skipped') };
}

export type Counts = Readonly<Record<Outcome, number>>;

export function countsOf(findings: readonly Finding[]): Counts {
  const count = (outcome: Outcome): number => findings.filter((finding) => finding.outcome === outcome).length;
  return { ok: count('ok'), warning: count('warning'), failed: count('failed'), skipped: count('skipped') };
}
