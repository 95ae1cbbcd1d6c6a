/**
 * What a worker's file is, by its first bytes: whether this machine's kernel can start it, and which interpreter or
 * loader it wants (execve(2), elf(5)).
 */

/** So much is read of a file: more than the longest first line the kernel takes, and all headers of an ELF file. */
export const HEAD_BYTES = 4096;

export type Format =
  | { readonly kind: 'script'; readonly interpreter: string; readonly argument: string }
  | { readonly kind: 'elf'; readonly machine: string; readonly loader: string | undefined }
  /** A sentence: why the kernel will not start it. */
  | { readonly kind: 'unknown'; readonly problem: string };

/** e_machine → the architecture as Node names it. */
const MACHINES = new Map<number, string>([
  [3, 'ia32'],
  [8, 'mips'],
  [20, 'ppc'],
  [21, 'ppc64'],
  [22, 's390x'],
  [40, 'arm'],
  [62, 'x64'],
  [183, 'arm64'],
  [243, 'riscv64'],
  [258, 'loong64'],
]);

const PT_INTERP = 3;

export function formatOf(head: Buffer): Format {
  if (head.length === 0) return { kind: 'unknown', problem: 'it is empty' };
  if (head.subarray(0, 2).toString('latin1') === '#!') return scriptOf(head);
  if (head.subarray(0, 4).toString('latin1') === '\u007fELF') return elfOf(head);
  const isText = !head.includes(0);
  return {
    kind: 'unknown',
    problem: isText
      ? 'it is a text without a first line such as #!/bin/sh'
      : 'it is neither a script nor a program of Linux',
  };
}

function scriptOf(head: Buffer): Format {
  const [line = ''] = head.subarray(2).toString('utf8').split('\n', 1);
  const [, interpreter = '', argument = ''] = /^[ \t]*([^ \t]*)[ \t]*(.*?)[ \t]*$/.exec(line) ?? [];
  if (line.endsWith('\r'))
    return { kind: 'unknown', problem: 'its lines end as on Windows: the first one names an interpreter with a \\r' };
  if (interpreter === '') return { kind: 'unknown', problem: 'its first line names no interpreter behind #!' };
  return { kind: 'script', interpreter, argument };
}

function elfOf(head: Buffer): Format {
  const damaged: Format = { kind: 'unknown', problem: 'it is a program that was cut short' };
  if (head.length < 64) return damaged;
  const is64 = head[4] === 2;
  const isLittle = head[5] === 1;
  const half = (at: number): number => (isLittle ? head.readUInt16LE(at) : head.readUInt16BE(at));
  const word = (at: number): number => (isLittle ? head.readUInt32LE(at) : head.readUInt32BE(at));
  const long = (at: number): number =>
    is64 ? Number(isLittle ? head.readBigUInt64LE(at) : head.readBigUInt64BE(at)) : word(at);
  const number = half(18);
  const machine = MACHINES.get(number) ?? `machine ${number}`;
  const start = long(is64 ? 32 : 28);
  const size = half(is64 ? 54 : 42);
  const count = half(is64 ? 56 : 44);
  for (let n = 0; n < count; n++) {
    const at = start + n * size;
    if (size < (is64 ? 56 : 32) || at + size > head.length) break;
    if (word(at) !== PT_INTERP) continue;
    const from = long(at + (is64 ? 8 : 4));
    const length = long(at + (is64 ? 32 : 16));
    // The path ends in a NUL, and stands near the beginning.
    if (from + length > head.length) break;
    return { kind: 'elf', machine, loader: head.subarray(from, from + length - 1).toString('utf8') };
  }
  return { kind: 'elf', machine, loader: undefined };
}

/** Which programs must be there for a script to start; `env` looks for its argument on the search path. */
export function interpretersOf({
  interpreter,
  argument,
}: Extract<Format, { kind: 'script' }>): readonly { readonly program: string; readonly isOnPath: boolean }[] {
  const own = { program: interpreter, isOnPath: false };
  if (!/(^|\/)env$/.test(interpreter)) return [own];
  const wanted = argument.split(/\s+/).find((word) => word !== '' && !word.startsWith('-') && !word.includes('='));
  return wanted === undefined ? [own] : [own, { program: wanted, isOnPath: true }];
}
