// Counter-based randomness: every draw is a pure function of (seed, purpose, name, epoch, index), never of what was drawn before.
// Invariant: a run's random choices do not depend on how many threads, processes or replicas share the work, nor on where it was resumed.
// The generator is Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).

/** What a draw is for: two purposes never share a number. */
export type RandomPurpose = 'order' | 'crop' | 'flip' | 'colour' | 'dropout' | 'init' | 'split' | 'synthetic';

/** A 64-bit key as two unsigned 32-bit words. */
export type RandomKey = readonly [number, number];

const rotations = [13, 15, 26, 6, 17, 29, 16, 24] as const;
const keyParity = 0x1bd11bda;

/** Threefry-2x32-20 of one 64-bit counter under one 64-bit key: two unsigned 32-bit words. */
export function threefry2x32(key: RandomKey, counter: readonly [number, number]): [number, number] {
  const schedule = [key[0], key[1], key[0] ^ key[1] ^ keyParity] as const;
  let a = (counter[0] + schedule[0]) | 0;
  let b = (counter[1] + schedule[1]) | 0;
  for (let round = 0; round < 20; round++) {
    const rotation = rotations[(round & 7) as 0];
    a = (a + b) | 0;
    b = ((b << rotation) | (b >>> (32 - rotation))) ^ a;
    if ((round & 3) === 3) {
      const group = (round >> 2) + 1;
      a = (a + schedule[(group % 3) as 0]) | 0;
      b = (b + schedule[((group + 1) % 3) as 0] + group) | 0;
    }
  }
  return [a >>> 0, b >>> 0];
}

/**
 * The key of one stream of draws. The purpose, the name and the epoch are folded into the seed one after another, each through the
 * generator itself, so that keys that differ in one part share nothing.
 */
export function randomKey(seed: number, purpose: RandomPurpose, name = '', epoch = 0): RandomKey {
  let key: RandomKey = [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0];
  key = threefry2x32(key, hashText(purpose));
  key = threefry2x32(key, hashText(name));
  return threefry2x32(key, [epoch >>> 0, Math.floor(epoch / 2 ** 32) >>> 0]);
}

/** The draw number `index` of a key as an unsigned 32-bit integer. */
export function randomUint32(key: RandomKey, index: number): number {
  return threefry2x32(key, [index >>> 0, Math.floor(index / 2 ** 32) >>> 0])[0];
}

/** Uniform in [0, 1), 32 bits of it. */
export function randomUniform(key: RandomKey, index: number): number {
  return randomUint32(key, index) / 2 ** 32;
}

/** A uniform integer in [0, bound); the bias is below bound / 2^32. */
export function randomBelow(key: RandomKey, index: number, bound: number): number {
  return Math.floor(randomUniform(key, index) * bound);
}

/** A standard normal draw (Box-Muller on the two words of one counter). */
export function randomNormal(key: RandomKey, index: number): number {
  const [a, b] = threefry2x32(key, [index >>> 0, Math.floor(index / 2 ** 32) >>> 0]);
  return Math.sqrt(-2 * Math.log((a + 1) / 2 ** 32)) * Math.cos((2 * Math.PI * b) / 2 ** 32);
}

/** A permutation of 0..count-1 (Fisher-Yates; draw i decides the swap at position i). */
export function randomPermutation(key: RandomKey, count: number): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = randomBelow(key, i, i + 1);
    const swapped = order[i] ?? 0;
    order[i] = order[j] ?? 0;
    order[j] = swapped;
  }
  return order;
}

/** FNV-1a of a text in two 32-bit lanes: enough to tell names apart, the generator does the mixing. */
function hashText(text: string): [number, number] {
  let low = 0x811c9dc5;
  let high = 0x9dc5811c;
  for (const byte of new TextEncoder().encode(text)) {
    low = Math.imul(low ^ byte, 0x01000193);
    high = Math.imul(high ^ (byte + 0x55), 0x01000193);
  }
  return [low >>> 0, high >>> 0];
}
