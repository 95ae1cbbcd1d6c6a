/**
 * Takes secrets out of text: those that are known, wherever they stand and however they are written, and those that look
 * like one. It rather takes too much: what it leaves is read by others.
 */

export const REDACTED = '[redacted]';

/** Shorter ones would be found in every other word. */
const SHORTEST = 4;

const PATTERNS: readonly (readonly [RegExp, string])[] = [
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g, REDACTED],
  // A password may hold any letter, so up to the last @ that may belong to it.
  [/([a-z][a-z0-9+.-]*:\/\/)[^\s"'<>`]*@/gi, `$1${REDACTED}@`],
  // Paths and queries of what is fetched and posted hold tokens.
  [/\b((?:https?|wss?):\/\/[^\s/?#"'<>`,;)]+)[/?#][^\s"'<>`,;)]+/gi, '$1/…'],
  [/\b(Bearer|Basic|Digest|Negotiate) +[\w.~+/=-]{6,}/gi, `$1 ${REDACTED}`],
  [/\beyJ[\w-]{6,}\.[\w-]+\.[\w-]*/g, REDACTED],
  [
    // Not of a setting that names a file, and not of a name that a sentence merely begins with.
    /((?:pass(?:word|wd|phrase)?|secret|token|api[-_]?key|access[-_]?key|authorization|credentials?|cookie)(?![\w-]*[-_](?:file|dir)\b)[\w-]*["']?\s*[=:]\s*)(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,;'"`]+)/gi,
    `$1${REDACTED}`,
  ],
];

export class Redactor {
  readonly #known = new Set<string>();

  /** Remembers a secret; also as it stands in a URL, in JSON and in base64. */
  add(secret: string | undefined): void {
    if (secret === undefined || secret.length < SHORTEST) return;
    const forms = [secret, encodeURIComponent(secret), JSON.stringify(secret).slice(1, -1)];
    for (const form of [...forms, Buffer.from(secret).toString('base64').replace(/=+$/, '')]) this.#known.add(form);
  }

  /** Remembers each line of a secret that has several, such as a key. */
  addLines(secret: string): void {
    for (const line of secret.split(/\r?\n/)) if (!line.startsWith('-----') && line.length >= 16) this.add(line);
  }

  /** Remembers users and passwords of all addresses in a text. */
  addFrom(text: string): void {
    for (const [, user = '', password = ''] of text.matchAll(/[a-z][a-z0-9+.-]*:\/\/([^\s"'<>:]*):?([^\s"'<>]*)@/gi)) {
      // A user alone may be a token.
      for (const each of password === '' ? [user] : [password]) {
        this.add(each);
        this.add(decoded(each));
      }
    }
  }

  text(text: string): string {
    let clean = text;
    for (const secret of [...this.#known].sort((one, other) => other.length - one.length))
      clean = clean.replaceAll(secret, REDACTED);
    for (const [pattern, replacement] of PATTERNS) clean = clean.replace(pattern, replacement);
    return clean;
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // A % that is just that.
    return text;
  }
}

/** The text of a unit without the values that it puts into the environment, and without credentials. */
export function maskedUnit(text: string): string {
  return text
    .replace(/\\\n/g, ' ')
    .split('\n')
    .map((line) => {
      const [, head, value] = /^(\s*(?:Environment|SetCredential|SetCredentialEncrypted)\s*=)(.*)$/.exec(line) ?? [];
      if (head === undefined || value === undefined) return line;
      const names = [...value.matchAll(/(?:^|[\s"'])([A-Za-z_][\w.-]*)[=:]/g)].map(
        ([, name]) => `${name ?? ''}=${REDACTED}`,
      );
      return head + (value.trim() === '' ? '' : names.join(' ') || REDACTED);
    })
    .join('\n');
}
