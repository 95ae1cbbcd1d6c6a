export { readCanonicalFacts, type FactsOptions } from './canonical-facts.js';
export { RecentFacts } from './recent-facts.js';
export type { ParseTags, Tags } from './ports.js';
export { systemSources, type FactSources } from './sources.js';
export { TagsFile, type TagsFileOptions } from './tags-file.js';
