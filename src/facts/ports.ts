/** What facts/ needs from others: a reader of TOML, which only config/ has. */

export type Tags = Readonly<Record<string, string>>;

/** Turns the text of tags.toml into tags; `source` is its name in problems, which are lines for a person. */
export type ParseTags = (
  text: string,
  source: string,
) => { readonly kind: 'ok'; readonly tags: Tags } | { readonly kind: 'invalid'; readonly problems: readonly string[] };
