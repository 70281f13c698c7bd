// The chosen kernels compute the same functions as the portable ones, over random shapes.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { chooseKernels, portableKernels } from '../../src/tower/kernels.ts';
import type { Kernels } from '../../src/tower/kernels.ts';
import { workspaceMaxPool } from '../../src/tower/maxPool.ts';
import { reluBackward, reluForward } from '../../src/tower/relu.ts';
import { bandedResponseNorm } from '../../src/tower/responseNorm.ts';
import { deviceInfo, dispose, upload } from '../../src/tower/tensorflow.ts';
import { drawNormal, relativeError, valuesOf } from './tensors.ts';

const chosen = chooseKernels();

const shapes = fc.tuple(
  fc.integer({ min: 1, max: 3 }),
  fc.integer({ min: 3, max: 15 }),
  fc.integer({ min: 3, max: 15 }),
  fc.integer({ min: 1, max: 48 }),
);

/** A few float32 operations in another order, on values of the order of 1. */
const rounding = 1e-6;

test.runIf(process.arch === 'x64' && deviceInfo().kind === 'cpu')("on an x86 CPU the pooling is oneDNN's", () => {
  expect(chosen.maxPool).toBe(workspaceMaxPool);
});

/** Pools the ReLU of x, and goes back to x. */
function pool({ maxPool }: Kernels, xShape: readonly number[]): { y: Float32Array; dx: Float32Array } {
  const x = upload(drawNormal('x', xShape));
  const activation = reluForward(x);
  const pooled = maxPool.forward(activation);
  const dy = upload(drawNormal('dy', pooled.y.shape));
  const dActivation = maxPool.backward(dy, { x: activation, ...pooled });
  const dx = reluBackward(dActivation, activation);
  dispose(x, activation, dy, dActivation, pooled.workspace);
  return { y: valuesOf(pooled.y), dx: valuesOf(dx) };
}

test('max pooling picks the same maxima and sends gradients to the same places', () => {
  fc.assert(
    fc.property(shapes, (shape) => {
      const [fast, portable] = [pool(chosen, shape), pool(portableKernels, shape)];
      expect(fast.y).toEqual(portable.y);
      expect(relativeError(fast.dx, portable.dx)).toBeLessThan(rounding);
    }),
    { numRuns: 60 },
  );
});

/** Maps of the given size, and back. */
function normalise({ responseNorm }: Kernels, xShape: readonly number[], sd: number): { y: Float32Array; dx: Float32Array } {
  const layer = responseNorm(xShape.at(-1)!);
  const x = upload(drawNormal('x', xShape, sd));
  const dy = upload(drawNormal('dy', xShape));
  const { y, saved } = layer.forward(x);
  const dx = layer.backward(dy, x, y, saved);
  dispose(x, dy, ...saved);
  layer.close();
  return { y: valuesOf(y), dx: valuesOf(dx) };
}

test('response norm gives the same maps and gradients, be the maps small or so large that it counts', () => {
  fc.assert(
    fc.property(shapes, fc.constantFrom(1, 60), (shape, sd) => {
      const [fast, portable] = [normalise(chosen, shape, sd), normalise(portableKernels, shape, sd)];
      expect(relativeError(fast.y, portable.y)).toBeLessThan(rounding);
      expect(relativeError(fast.dx, portable.dx)).toBeLessThan(rounding);
    }),
    { numRuns: 60 },
  );
});

test("the banded response norm refuses a beta that is not the paper's", () => {
  expect(() => bandedResponseNorm(8, { radius: 2, bias: 2, alpha: 1e-4, beta: 1 })).toThrow('0.75');
});
