/**
 * Writes what is made from the code: config.example.toml, protocol/original-settings.md, docs/errors.md, docs/metrics.md,
 * docs/reference and the man pages. With --check nothing is written, and a file that is not up to date is an error.
 * Run: node --import tsx scripts/generate-docs.ts [--check]
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { format } from 'prettier';
import { renderExample } from '../src/config/example.js';
import { renderOriginalSettings } from '../src/config/original.js';
import { ERRORS } from '../src/errors.js';
import { referenceDocuments } from './reference/documents.js';
import { manPages } from './reference/man-pages.js';
import { renderMetrics } from '../src/metrics/document.js';

const ROOT = join(import.meta.dirname, '..');

function renderErrors(): string {
  const rows = Object.entries(ERRORS).map(
    ([code, { meaning, remedy, isRetryable, exitCode }]) =>
      `| \`${code}\` | ${meaning} | ${remedy} | ${isRetryable ? 'yes' : 'no'} | ${exitCode} |`,
  );
  return `# Errors

Made from src/errors.ts by scripts/generate-docs.ts. A program that ends because of an error has its exit code.

| code | what happened | what to do | may help to try again | exit code |
| --- | --- | --- | --- | --- |
${rows.join('\n')}
`;
}

/** Path from the root → text. */
export async function generatedFiles(): Promise<ReadonlyMap<string, string>> {
  const markdown = (text: string): Promise<string> => format(text, { parser: 'markdown', printWidth: 120 });
  const reference = (await referenceDocuments(ROOT)).map(async ([path, text]): Promise<[string, string]> => [
    path,
    await markdown(text),
  ]);
  return new Map([
    ['config.example.toml', renderExample()],
    ['protocol/original-settings.md', await markdown(renderOriginalSettings())],
    ['docs/errors.md', await markdown(renderErrors())],
    ...(await Promise.all(reference)),
    ...manPages(),
    ['docs/metrics.md', await markdown(renderMetrics())],
  ]);
}

if (process.argv[1] === import.meta.filename) {
  const isCheck = process.argv.includes('--check');
  for (const [path, text] of await generatedFiles()) {
    const file = join(ROOT, path);
    if (!isCheck) {
      await mkdir(dirname(file), { recursive: true });
      await writeFile(file, text);
    } else if ((await readFile(file, 'utf8').catch(() => '')) !== text) {
      console.error(`${path} is not up to date: run node --import tsx scripts/generate-docs.ts`);
      process.exitCode = 1;
    }
  }
}
