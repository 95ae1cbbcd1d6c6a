/** A worker that reads each content as a stream and answers with its size and sum; for tests of memory. */
import { jsonReply, serve } from '../../src/worker/index.js';

await serve({ handler: 'echo', streamContent: true }, async (message) => {
  let [size, sum] = [0, 0];
  for await (const chunk of message.body()) {
    const bytes = chunk as Buffer;
    size += bytes.length;
    sum = (sum + (bytes[0] ?? 0)) % 65_536;
  }
  return jsonReply({ size, sum });
});
