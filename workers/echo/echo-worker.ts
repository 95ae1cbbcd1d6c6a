#!/usr/bin/env node
/** The echo worker: sends back the content, byte for byte, and the metadata. The smallest example of a worker. */
import { endWithError, serve } from '../../src/worker/index.js';

await serve({ handler: 'echo', features: { version: '1' } }, ({ content, metadata }) => ({ content, metadata })).catch(
  endWithError,
);
