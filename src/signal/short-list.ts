/**
 * Lists that almost always hold one thing. With the first push V8 gives an empty list room for seventeen, and several
 * such lists came and went with every message.
 */

/** The list with an item more; a new one when there was none. */
export function withItem<T>(list: T[] | undefined, item: T): T[] {
  if (list === undefined) return [item];
  list.push(item);
  return list;
}
