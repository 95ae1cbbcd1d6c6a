/** How this machine is enrolled, as `ygg status` tells it. Read from files that every user may read. */
import { X509Certificate } from 'node:crypto';
import { dirname, join } from 'node:path';
import { readIfThere } from './files.js';
import { readRecord } from './record.js';

export interface EnrolmentView {
  readonly client_id: string | null;
  /** The consumer that the registration service made of it. */
  readonly consumer: string | null;
  /** RFC 3339: the end of the certificate that connect copied. */
  readonly certificate_valid_to: string | null;
}

const SYSTEM = { configDir: '/etc/yggdrasil', runtimeDir: '/run/yggdrasil' };

/** Null where `ygg connect` did not enrol the agent that is asked, or what it left cannot be read. */
export async function enrolmentOf(flags: {
  readonly config?: string;
  readonly runtimeDir?: string;
}): Promise<EnrolmentView | null> {
  const isSystem = flags.runtimeDir === undefined || flags.runtimeDir === SYSTEM.runtimeDir;
  if (flags.config === undefined && !isSystem) return null;
  const directory = flags.config === undefined ? SYSTEM.configDir : dirname(flags.config);
  try {
    const { clientId = null, consumer = null, files } = await readRecord(directory);
    const cert = files.find((path) => path === join(directory, 'agent.crt'));
    const pem = cert === undefined ? undefined : await readIfThere(cert);
    if (consumer === null && pem === undefined) return null;
    const validTo = pem === undefined ? null : new Date(new X509Certificate(pem.bytes).validTo).toISOString();
    return { client_id: clientId, consumer, certificate_valid_to: validTo };
  } catch {
    // The agent answers all the same; `ygg connect` tells what is wrong with it.
    return null;
  }
}

/** For a person. */
export function enrolmentText({ client_id, consumer, certificate_valid_to }: EnrolmentView): string {
  if (certificate_valid_to !== null) return `by certificate, as ${client_id ?? ''}, until ${certificate_valid_to}`;
  return `by registration, as ${consumer ?? ''}`;
}
