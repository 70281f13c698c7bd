// Global response norm of two towers is one response norm over the merged maps, there and back.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import tf from '@tensorflow/tfjs-node-gpu';
import { memoryExchangePair } from '../../src/protocol/memoryExchange.ts';
import { towers } from '../../src/spec/layout.ts';
import type { TowerIndex } from '../../src/spec/layout.ts';
import type { Send } from '../../src/tower/crossing.ts';
import { globalResponseNorm } from '../../src/tower/globalResponseNorm.ts';
import { chooseKernels, portableKernels } from '../../src/tower/kernels.ts';
import type { Kernels } from '../../src/tower/kernels.ts';
import { dispose, download, upload } from '../../src/tower/tensorflow.ts';
import { drawNormal, relativeError, valuesOf } from './tensors.ts';

/** So steep that each neighbour counts. */
const rule = { radius: 2, bias: 1, alpha: 0.3, beta: 0.75 };

interface Passes {
  readonly y: Float32Array;
  readonly dx: Float32Array;
}

async function inTowers(kernels: Kernels, channels: number, x: tf.Tensor, dy: tf.Tensor): Promise<Passes> {
  const exchanges = memoryExchangePair();
  const send = (tower: TowerIndex, phase: 'forward' | 'backward'): Send => {
    return (mine) => {
      const { received } = exchanges[tower].swap({ step: 0, site: 'conv1.lrn', phase, microBatch: 0 }, download(mine));
      return async () => upload(await received);
    };
  };
  const [xs, dys] = [x, dy].map((whole) => tf.split(whole, 2, -1)) as [tf.Tensor[], tf.Tensor[]];
  const results = await Promise.all(
    towers.map(async (tower) => {
      const norm = globalResponseNorm(kernels.responseNorm(channels + rule.radius, rule), {
        tower,
        channels,
        radius: rule.radius,
      });
      const { y, saved } = await norm.forward(xs[tower]!, send(tower, 'forward'));
      const dx = await norm.backward(dys[tower]!, saved, send(tower, 'backward'));
      dispose(...saved);
      norm.close();
      return { y, dx };
    }),
  );
  const merge = (parts: readonly tf.Tensor[]): Float32Array => {
    const values = valuesOf(tf.concat([...parts], -1));
    dispose(...parts);
    return values;
  };
  dispose(...xs, ...dys);
  return { y: merge(results.map(({ y }) => y)), dx: merge(results.map(({ dx }) => dx)) };
}

function inOnePiece(channels: number, x: tf.Tensor, dy: tf.Tensor): Passes {
  const norm = portableKernels.responseNorm(2 * channels, rule);
  const { y, saved } = norm.forward(x);
  const dx = norm.backward(dy, x, y, saved);
  dispose(...saved);
  return { y: valuesOf(y), dx: valuesOf(dx) };
}

/** A few float32 operations in another order; the power -0.75 of two kernels differs by some units in the last place. */
const rounding = 3e-6;

test.each([
  { name: 'chosen', kernels: chooseKernels() },
  { name: 'portable', kernels: portableKernels },
])('swapping the border maps makes one norm of two, with $name kernels', async ({ kernels }) => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 3 }),
      fc.integer({ min: 1, max: 6 }),
      fc.integer({ min: 2, max: 24 }),
      async (pictures, side, channels) => {
        const shape = [pictures, side, side, 2 * channels];
        const [x, dy] = [upload(drawNormal('x', shape)), upload(drawNormal('dy', shape))] as const;
        const [pair, whole] = [await inTowers(kernels, channels, x, dy), inOnePiece(channels, x, dy)];
        dispose(x, dy);
        expect(relativeError(pair.y, whole.y)).toBeLessThan(rounding);
        expect(relativeError(pair.dx, whole.dx)).toBeLessThan(rounding);
      },
    ),
    { numRuns: 25 },
  );
});

test('a tower that has fewer maps than the border is refused', () => {
  expect(() => globalResponseNorm(portableKernels.responseNorm(3, rule), { tower: 0, channels: 1, radius: 2 })).toThrow('border');
});
