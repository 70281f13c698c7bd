// Which buckets a backward pass sums, and that what comes back is what went in, summed.

import { expect, test } from 'vitest';
import type { GradientSum } from '../../src/spec/gradientSum.ts';
import { GradientBuckets } from '../../src/tower/gradientBuckets.ts';
import { liveTensors, upload } from '../../src/tower/tensorflow.ts';
import type { Tensor } from '../../src/tower/tensorflow.ts';
import { memoryRing } from '../protocol/rings.ts';
import { valuesOf } from './tensors.ts';

const mebi = 1024 * 1024;

function gradient(length: number, replica: number, rows = 1): Tensor {
  return upload({ shape: [rows, length / rows], values: Float32Array.from({ length }, (_, i) => (i % 97) + replica) });
}

/** Passes the sums on, and keeps their names and sizes. */
function recorded(sum: GradientSum, buckets: { bucket: string; length: number }[]): GradientSum {
  return {
    sum: (tag, values) => {
      buckets.push({ bucket: tag.bucket, length: values.length });
      return sum.sum(tag, values);
    },
    bytesSent: 0,
    close: (reason) => {
      sum.close(reason);
    },
  };
}

test('large blocks are cut, small ones share a bucket, and every gradient comes back summed in its shape', async () => {
  const before = liveTensors();
  const ring = await memoryRing(2);
  const buckets: { bucket: string; length: number }[][] = [[], []];
  const sums = await Promise.all(
    ring.map(async (end, replica) => {
      const own = new GradientBuckets(recorded(end, buckets[replica]!), 7);
      // fc6 belongs to the layer that is whole; of conv1 a first part is there, which must stay.
      const gradients = new Map([
        ['fc8.bias', gradient(10, replica)],
        ['fc8.weight', gradient(600 * 1024, replica, 1024)],
        ['conv1.bias', gradient(48, replica)],
      ]);
      await own.takeLayer('fc8', gradients);
      expect([...gradients.keys()]).toEqual(['conv1.bias']);
      gradients.set('fc6.weight.own', gradient(9 * mebi, replica, 9));
      await own.takeLayer('fc6', gradients);
      await own.takeLayer('conv1', gradients);
      expect(gradients.size).toBe(0);
      return own.summed();
    }),
  );
  expect(buckets[0]).toEqual([
    { bucket: 'fc8.weight 0', length: 600 * 1024 },
    { bucket: 'fc6.weight.own 0', length: 4 * mebi },
    { bucket: 'fc6.weight.own 1', length: 4 * mebi },
    { bucket: 'fc6.weight.own 2', length: mebi },
    { bucket: 'fc8.bias and on', length: 58 },
  ]);
  expect(buckets[1]).toEqual(buckets[0]);
  for (const summed of sums) {
    expect([...summed.keys()].sort()).toEqual(['conv1.bias', 'fc6.weight.own', 'fc8.bias', 'fc8.weight']);
    expect(summed.get('fc6.weight.own')?.shape).toEqual([9, mebi]);
    for (const tensor of summed.values()) {
      // Small whole numbers, so that the sums are exact.
      const values = valuesOf(tensor);
      expect(values.every((value, i) => value === 2 * (i % 97) + 1)).toBe(true);
    }
  }
  expect(liveTensors()).toBe(before);
});
