/** Requests that any authority reads: openssl checks the signature and tells what they hold. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { newKey, signingRequest } from '../../../../src/cli/connect/signing-request.js';

const skip = spawnSync('openssl', ['version']).status === 0 ? false : 'openssl is not installed';

function read(request: string): { readonly verdict: string; readonly text: string } {
  const args = ['req', '-noout', '-verify', '-subject', '-pubkey', '-nameopt', 'utf8,-esc_msb'];
  const { stdout, stderr } = spawnSync('openssl', args, { input: request, encoding: 'utf8' });
  return { verdict: stderr, text: stdout };
}

test('for a new key and for an RSA key of any size, with names of any length', { skip }, () => {
  const keys = [
    createPrivateKey(newKey()),
    ...[2048, 3072].map((modulusLength) => generateKeyPairSync('rsa', { modulusLength }).privateKey),
  ];
  for (const key of keys) {
    for (const name of ['a', 'host-1.example', 'x'.repeat(64), 'ü']) {
      const { verdict, text } = read(signingRequest(key, name) ?? '');
      assert.match(verdict, /verify OK/);
      assert.match(text, new RegExp(`CN ?= ?${name}$`, 'm'));
      const spki = createPublicKey(key).export({ type: 'spki', format: 'pem' }).toString();
      assert.ok(text.includes(spki), 'it holds the public key, whole');
    }
  }
});

test('other keys are left to openssl', () => {
  assert.equal(signingRequest(generateKeyPairSync('ed25519').privateKey, 'a'), undefined);
  assert.equal(signingRequest(generateKeyPairSync('ec', { namedCurve: 'secp384r1' }).privateKey, 'a'), undefined);
});
