/** Holds what an agent published against the JSON Schemas of protocol/ and the order of fields in PROTOCOL section 1. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import type { Heard } from './operator.js';

const CONTROL_FIELDS = ['type', 'message_id', 'response_to', 'version', 'sent', 'content'];
const FIELDS: Readonly<Record<string, readonly string[]>> = {
  'connection-status': CONTROL_FIELDS,
  event: CONTROL_FIELDS,
  data: ['type', 'message_id', 'response_to', 'version', 'sent', 'directive', 'metadata', 'content'],
};
const schemas = new Map(Object.keys(FIELDS).map((type) => [type, schema(type)]));

function schema(type: string): ValidateFunction {
  const url = new URL(`../../protocol/${type}.schema.json`, import.meta.url);
  const ajv = new Ajv2020({ allErrors: true, strict: true, strictRequired: false, allowUnionTypes: true });
  formats.default(ajv);
  return ajv.compile(JSON.parse(readFileSync(url, 'utf8')) as object);
}

/** Fails with the first message that is no envelope of ours, or when none of the types named was among them. */
export function assertEnvelopes(published: readonly Heard[], ...types: readonly string[]): void {
  for (const { raw, type = '' } of published) {
    const shown = raw.slice(0, 500);
    const validate = schemas.get(type);
    assert.ok(validate !== undefined, `no envelope of an agent: ${shown}`);
    const fields = JSON.parse(raw) as object;
    assert.ok(validate(fields), `${JSON.stringify(validate.errors)}: ${shown}`);
    assert.deepEqual(Object.keys(fields), FIELDS[type], shown);
  }
  for (const type of types)
    assert.ok(
      published.some((heard) => heard.type === type),
      `no ${type} was published`,
    );
}
