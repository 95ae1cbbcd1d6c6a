/**
 * The CRC-32 of bytes out of those of their parts, without looking at the bytes again (as crc32_combine of zlib). A crc is a
 * polynomial of 32 bits, with that of x⁰ as the highest one; to stand before n bytes more it is multiplied by x to the
 * power of 8n.
 */

/** The polynomial of CRC-32. */
const MODULUS = 0xedb88320 | 0;

/** x to the power of 8, 16, 32, … modulo the polynomial: for each bit of a length. */
const POWERS = Int32Array.from([
  0x00800000, 0x00008000, 0xedb88320, 0xb1e6b092, 0xa06a2517, 0xed627dae, 0x88d14467, 0xd7bbfe6a, 0xec447f11,
  0x8e7ea170, 0x6427800e, 0x4d47bae0, 0x09fe548f, 0x83852d0f, 0x30362f1a, 0x7b5a9cc3, 0x31fec169, 0x9fec022a,
  0x6c8dedc4, 0x15d6874d, 0x5fde7a4e, 0xbad90e37, 0x2e4e5eef, 0x4eaba214, 0xa8a472c0, 0x429a969e, 0x148d302a,
  0xc40ba6d0, 0xc4e22c3c, 0x40000000, 0x20000000, 0x08000000,
]);

/** The crc of two parts one behind the other, out of the crc of each and the length of the second, below 2³². */
export function joinedCrc(first: number, second: number, secondLength: number): number {
  let moved = first | 0;
  for (let n = 0, rest = secondLength >>> 0; rest !== 0; n++, rest >>>= 1) {
    if ((rest & 1) === 1) moved = product(POWERS[n] ?? 0, moved);
  }
  return (moved ^ second) >>> 0;
}

/** Without a branch for each bit: a processor would guess half of them wrong. */
function product(a: number, b: number): number {
  let sum = 0;
  let shifted = b;
  for (let n = 0, rest = a; n < 32; n++, rest <<= 1) {
    sum ^= shifted & (rest >> 31);
    shifted = (shifted >>> 1) ^ (-(shifted & 1) & MODULUS);
  }
  return sum;
}
