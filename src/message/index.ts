export * from './answer.js';
export * from './codec.js';
export * from './envelope.js';
export * from './ids.js';
export * from './json.js';
export * from './quoted.js';
export * from './record.js';
export * from './url.js';
