/**
 * The TLS context for the next connection, made of the material as it is then. Material that cannot be used (a key
 * that belongs to another certificate, an expired certificate, half of a pair) keeps the last good one in use.
 */
import { createHash, X509Certificate } from 'node:crypto';
import { createSecureContext, type SecureContext } from 'node:tls';
import { errorText } from '../errors.js';
import type { Millis } from '../time.js';

/** PEM bytes. Without `ca` the machine's own authorities are trusted. */
export interface TlsMaterial {
  readonly cert?: Buffer | string | undefined;
  readonly key?: Buffer | string | undefined;
  readonly ca?: Buffer | string | readonly (Buffer | string)[] | undefined;
}

export type TlsContext =
  | {
      readonly kind: 'ready';
      readonly context: SecureContext;
      /** Why older material is in use. */ readonly problem?: string;
    }
  | { readonly kind: 'unusable'; readonly problem: string };

export class TlsKeeper {
  #good: { readonly digest: string; readonly context: SecureContext } | undefined;

  /** `read` gives the present material and may throw; `now` is wall time. */
  constructor(
    private readonly read: () => TlsMaterial | undefined,
    private readonly now: () => Millis,
  ) {}

  /** The context to connect with: of the present material, or of the last good one. */
  current(): TlsContext {
    try {
      const material = this.read() ?? {};
      const digest = digestOf(material);
      if (this.#good?.digest === digest) return { kind: 'ready', context: this.#good.context };
      const problem = this.#problemOf(material);
      if (problem !== undefined) return this.#lastGood(problem);
      this.#good = { digest, context: contextOf(material) };
      return { kind: 'ready', context: this.#good.context };
    } catch (error) {
      return this.#lastGood(errorText(error));
    }
  }

  #lastGood(problem: string): TlsContext {
    if (this.#good === undefined) return { kind: 'unusable', problem };
    return { kind: 'ready', context: this.#good.context, problem };
  }

  #problemOf(material: TlsMaterial): string | undefined {
    if ((material.cert === undefined) !== (material.key === undefined))
      return material.cert === undefined ? 'there is a key but no certificate' : 'there is a certificate but no key';
    if (material.cert === undefined) return undefined;
    const ends = Date.parse(new X509Certificate(material.cert).validTo);
    return ends < this.now() ? `the certificate ended on ${new Date(ends).toISOString()}` : undefined;
  }
}

/** The context of this material. Throws what OpenSSL says of material that cannot be used. */
export function contextOf(material: TlsMaterial): SecureContext {
  const { cert, key, ca } = material;
  return createSecureContext({
    minVersion: 'TLSv1.2',
    ...(cert !== undefined && { cert }),
    ...(key !== undefined && { key }),
    ...(ca !== undefined && { ca: listOf(ca) }),
  });
}

function listOf(ca: NonNullable<TlsMaterial['ca']>): (Buffer | string)[] {
  return typeof ca === 'string' || Buffer.isBuffer(ca) ? [ca] : [...ca];
}

function digestOf(material: TlsMaterial): string {
  const hash = createHash('sha256');
  for (const part of [material.cert ?? '', material.key ?? '', ...listOf(material.ca ?? [])]) {
    // The length keeps two parts from being read as one.
    hash.update(`${part.length}:`).update(part);
  }
  return hash.digest('hex');
}
