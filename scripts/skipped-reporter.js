/** A reporter of node:test that writes only what was skipped: one line of JSON each, for scripts/test.js. */
export default async function* skipped(source) {
  for await (const { type, data } of source) {
    if (type !== 'test:pass' || data.skip === undefined || data.skip === false) continue;
    const reason = typeof data.skip === 'string' && data.skip !== '' ? data.skip : 'no reason given';
    yield `${JSON.stringify({ name: data.name, reason })}\n`;
  }
}
