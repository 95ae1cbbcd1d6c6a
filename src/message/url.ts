/** Reading URLs that people write into settings. */

/**
 * A URL from text, or undefined. Not by `URL.canParse`: once that is called often, Node 20 takes a text of Latin-1 for
 * UTF-8 and answers for another text than it was asked about; `new URL` then throws where nobody expects it.
 */
export function urlFrom(text: string, base?: string): URL | undefined {
  try {
    return new URL(text, base);
  } catch {
    // That it is no URL is the answer.
    return undefined;
  }
}

/** A part of a URL with its percent-escapes resolved; a lone % in a password, which encodes nothing, stands for itself. */
export function unescaped(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
