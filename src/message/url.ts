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
