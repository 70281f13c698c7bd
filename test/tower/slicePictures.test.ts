// Parts of a batch, where their memory is shared and where it cannot be.

import { expect, test } from 'vitest';
import { dispose, slicePictures, upload } from '../../src/tower/tensorflow.ts';
import { drawNormal, valuesOf } from './tensors.ts';

test.each([
  ['pictures of an odd size, in parts of 16', [5, 5, 3], 48, 16],
  ['pictures of an odd size, in parts that are not', [5, 5, 3], 10, 4],
  ['rows of features', [32], 10, 4],
  ['all of them', [5, 5, 3], 10, 10],
])('%s', (_, shape, pictures, part) => {
  const size = shape.reduce((product, side) => product * side);
  const batch = drawNormal('parts', [pictures, size]);
  const x = upload(batch);
  for (let start = 0; start < pictures; start += part) {
    const count = Math.min(part, pictures - start);
    const some = slicePictures(x, { start, count }, shape);
    expect(some.shape).toEqual([count, ...shape]);
    expect(valuesOf(some)).toEqual(batch.values.slice(start * size, (start + count) * size));
  }
  expect(valuesOf(x)).toEqual(batch.values);
  dispose(x);
});
