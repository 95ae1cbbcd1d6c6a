/** Texts that JSON writes as they are: what ids, directives and times are made of. */

/**
 * Whether a text is ASCII that stands for itself between quotes: as many bytes as it has characters. By hand, since these
 * texts are short.
 */
export function isPlain(text: string): boolean {
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    if (unit < 0x20 || unit > 0x7e || unit === 0x22 || unit === 0x5c) return false;
  }
  return true;
}

/** Any text in quotes, as JSON has it. */
export function jsonText(text: string): string {
  return isPlain(text) ? `"${text}"` : JSON.stringify(text);
}
