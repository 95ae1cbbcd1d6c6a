/** Types of needs.js for its test. */
export function dependenciesOf(texts: readonly string[]): readonly string[];
