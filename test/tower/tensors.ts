// Tensors of the tests: drawn by key, read back, and compared as host arrays.

import { sizeOf } from '../../src/spec/layout.ts';
import type { TensorData } from '../../src/spec/exchange.ts';
import { randomBelow, randomKey, randomNormal } from '../../src/spec/random.ts';
import { download, upload, uploadInt32 } from '../../src/tower/tensorflow.ts';
import type { Tensor } from '../../src/tower/tensorflow.ts';

/** Normal draws times `sd`; the same name gives the same ones. */
export function drawNormal(name: string, shape: readonly number[], sd = 1): TensorData {
  const key = randomKey(1, 'synthetic', name);
  return { shape, values: Float32Array.from({ length: sizeOf(shape) }, (_, i) => sd * randomNormal(key, i)) };
}

/** Whole numbers in [0, bound). */
export function drawIntegers(name: string, count: number, bound: number): Int32Array {
  const key = randomKey(1, 'synthetic', name);
  return Int32Array.from({ length: count }, (_, i) => randomBelow(key, i, bound));
}

/** Pictures [N,S,S,3] and labels [N] on the device. */
export function drawBatch(
  name: string,
  { pictures, size, classes, sd = 8 }: { pictures: number; size: number; classes: number; sd?: number },
): { images: Tensor; labels: Tensor } {
  return {
    images: upload(drawNormal(`${name} images`, [pictures, size, size, 3], sd)),
    labels: uploadInt32(drawIntegers(`${name} labels`, pictures, classes), [pictures]),
  };
}

/** Copies the values to the host, and frees the tensor. */
export function valuesOf(tensor: Tensor): Float32Array {
  const { values } = download(tensor);
  tensor.dispose();
  return values;
}

/** <a, b>, summed in float64. */
export function inner(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new Error(`${a.length} values and ${b.length}`);
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

export function norm(a: ArrayLike<number>): number {
  return Math.sqrt(inner(a, a));
}

/** The largest difference, as a share of the largest expected magnitude. NaN where a value is. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) throw new Error(`${actual.length} values, not ${expected.length}`);
  let difference = 0;
  let magnitude = 0;
  for (let i = 0; i < expected.length; i++) {
    difference = Math.max(difference, Math.abs(actual[i]! - expected[i]!));
    magnitude = Math.max(magnitude, Math.abs(expected[i]!));
  }
  return difference === 0 ? 0 : difference / magnitude;
}
