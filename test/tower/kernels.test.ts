// The chosen kernels compute the same functions as the portable ones, over random shapes.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import tf from '@tensorflow/tfjs-node-gpu';
import { disjointPoolWindow, poolWindow } from '../../src/spec/network.ts';
import type { PoolWindow } from '../../src/spec/network.ts';
import { hasNativeRectified, nativeRectified, rectified } from '../../src/tower/activation.ts';
import type { Activation } from '../../src/tower/activation.ts';
import { hasWinogradConvolution, portableConvolution, suitsWinograd, winogradConvolution } from '../../src/tower/convolution.ts';
import type { Sliding } from '../../src/tower/convolution.ts';
import { chooseKernels, portableKernels } from '../../src/tower/kernels.ts';
import type { Kernels } from '../../src/tower/kernels.ts';
import { workspaceMaxPool } from '../../src/tower/maxPool.ts';
import {
  composedNormalisedActivation,
  hasNativeNormalisedActivation,
  nativeNormalisedActivation,
} from '../../src/tower/normalisedActivation.ts';
import { reluBackward, reluForward } from '../../src/tower/relu.ts';
import { bandedResponseNorm } from '../../src/tower/responseNorm.ts';
import { hasNativeShiftPixels, nativeShiftPixels, portableShiftPixels } from '../../src/tower/pictures.ts';
import {
  hasNativeSoftmaxCrossEntropy,
  nativeSoftmaxCrossEntropy,
  portableSoftmaxCrossEntropy,
} from '../../src/tower/softmaxCrossEntropy.ts';
import { deviceInfo, dispose, upload, uploadInt32 } from '../../src/tower/tensorflow.ts';
import { hasNativeUpdate, nativeSquaredNorm, nativeUpdate, portableSquaredNorm } from '../../src/tower/updateRule.ts';
import { Variable } from '../../src/tower/variable.ts';
import { drawIntegers, drawNormal, inner, norm, relativeError, valuesOf } from './tensors.ts';

const chosen = chooseKernels();
const hasNative = deviceInfo().kind === 'cpu' && hasNativeNormalisedActivation();
const hasWinograd = deviceInfo().kind === 'cpu' && hasWinogradConvolution();

const shapes = fc.tuple(
  fc.integer({ min: 1, max: 3 }),
  fc.integer({ min: 3, max: 15 }),
  fc.integer({ min: 3, max: 15 }),
  fc.integer({ min: 1, max: 48 }),
);

/** A few float32 operations in another order, on values of the order of 1. */
const rounding = 1e-6;
/** Sums of up to 675 values, in another order: 2^-24 times the root of their number is 1.6e-6. */
const roundingOfSums = 3e-6;
/** Winograd's transforms multiply the rounding of a sum by up to 5 (src/tower/native/winograd.h); sums here have up to 20,000 products. */
const roundingOfWinograd = 1e-5;

test.runIf(process.arch === 'x64' && deviceInfo().kind === 'cpu')("on an x86 CPU the pooling is oneDNN's", () => {
  expect(chosen.maxPool).toBe(workspaceMaxPool);
});

/** Pools the ReLU of x, and goes back to x. */
function pool(kernels: Kernels, xShape: readonly number[], window: PoolWindow): { y: Float32Array; dx: Float32Array } {
  const maxPool = kernels.maxPool(window);
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
    fc.property(shapes, fc.constantFrom(poolWindow, disjointPoolWindow), (shape, window) => {
      const [fast, portable] = [pool(chosen, shape, window), pool(portableKernels, shape, window)];
      expect(fast.y).toEqual(portable.y);
      expect(relativeError(fast.dx, portable.dx)).toBeLessThan(rounding);
    }),
    { numRuns: 60 },
  );
});

const slidings = fc
  .record({
    blocks: fc.constantFrom(3, 5),
    stride: fc.integer({ min: 1, max: 4 }),
    short: fc.nat(3),
    isPadded: fc.boolean(),
  })
  .map(({ blocks, stride, short, isPadded }): Sliding => ({
    // Of the points in its last block, the kernel may lack some.
    kernelSize: blocks * stride - Math.min(short, stride - 1),
    stride,
    padding: isPadded && stride === 1 ? 'same' : 'valid',
  }));

/** A picture's sides, so that the kernel finds a place in it; N pictures, C channels to K maps. */
const convolutions = fc.record({
  sliding: slidings,
  pictures: fc.integer({ min: 1, max: 3 }),
  more: fc.tuple(fc.integer({ min: 0, max: 12 }), fc.integer({ min: 0, max: 12 })),
  channels: fc.oneof(fc.constantFrom(3, 48), fc.integer({ min: 1, max: 40 })),
  maps: fc.oneof(fc.constantFrom(48), fc.integer({ min: 1, max: 70 })),
});

describe("Winograd's convolution", () => {
  test.beforeEach((context) => {
    context.skip(!hasWinograd, 'the binding has no such op, or the CPU no AVX-512');
  });

  test("and its gradients are TensorFlow's", () => {
    fc.assert(
      fc.property(convolutions, ({ sliding, pictures, more, channels, maps }) => {
        expect(suitsWinograd(sliding)).toBe(true);
        const { kernelSize } = sliding;
        const [x, w] = [
          upload(drawNormal('x', [pictures, kernelSize + more[0], kernelSize + more[1], channels])),
          upload(drawNormal('w', [kernelSize, kernelSize, channels, maps])),
        ];
        const [winograd, portable] = [winogradConvolution(sliding), portableConvolution(sliding)];
        const y = portable.apply(x, w);
        const dy = upload(drawNormal('dy', y.shape));
        const points = kernelSize ** 2;
        for (const [ours, theirs, products] of [
          [winograd.apply(x, w), y, points * channels],
          [winograd.weightGradient(x, dy, w.shape), portable.weightGradient(x, dy, w.shape), dy.size / maps],
          [winograd.inputGradient(dy, w, x.shape), portable.inputGradient(dy, w, x.shape), points * maps],
        ] as const) {
          expect(ours.shape).toEqual(theirs.shape);
          // Beside what a sum of so many products of such values is like: a single one of them may be close to zero.
          const [actual, expected] = [valuesOf(ours), valuesOf(theirs)];
          const difference = actual.map((value, at) => value - expected[at]!);
          expect(norm(difference) / Math.sqrt(actual.length * products)).toBeLessThan(roundingOfWinograd);
        }
        dispose(x, w, dy);
      }),
      { numRuns: 100 },
    );
  });

  test('gives a picture the same bits alone and beside others', () => {
    const convolution = winogradConvolution({ kernelSize: 5, stride: 1, padding: 'same' });
    const { shape, values } = drawNormal('pictures', [3, 13, 11, 20]);
    const w = upload(drawNormal('w', [5, 5, 20, 33]));
    const together = convolution.apply(upload({ shape, values }), w);
    const alone = convolution.apply(upload({ shape: [1, 13, 11, 20], values: values.slice(-13 * 11 * 20) }), w);
    expect(valuesOf(alone)).toEqual(valuesOf(together).slice(-13 * 11 * 33));
  });

  test('refuses what it does not know', () => {
    const [x, w, narrow] = [tf.ones([1, 8, 8, 2]), tf.ones([4, 4, 2, 3]), tf.ones([3, 3, 5, 3])];
    const same = { stride: 1, padding: 'same' } as const;
    expect(() => winogradConvolution({ ...same, kernelSize: 4 }).apply(x, w)).toThrow('the kernel must be 3 or 5 strides wide');
    expect(() => winogradConvolution({ ...same, kernelSize: 3 }).apply(x, narrow)).toThrow('the same channels');
  });
});

/** Maps of the given size through a kernel that is closed then, and back. */
function activate(layer: Activation, zShape: readonly number[], sd: number): Record<'y' | 'dz' | 'db', Float32Array> {
  const [z, b, dy] = [drawNormal('z', zShape, sd), drawNormal('b', zShape.slice(-1), sd), drawNormal('dy', zShape)].map(upload);
  const activated = layer.forward(z!, b!);
  const { dz, db } = layer.backward(dy!, activated);
  dispose(z, b, dy, ...activated.saved);
  layer.close();
  return { y: valuesOf(activated.y), dz: valuesOf(dz), db: valuesOf(db) };
}

const banded = (channels: number): Activation => composedNormalisedActivation(bandedResponseNorm(channels));

/** The maps' depth: the paper's, shallower than the five neighbours, and no multiple of any vector. */
const depths = fc.oneof(fc.constantFrom(48, 128), fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 130 }));

describe.each([
  { kernel: 'banded', make: banded, works: true },
  { kernel: 'native', make: () => nativeNormalisedActivation(), works: hasNative },
])('bias, ReLU and response norm, $kernel', ({ kernel, make, works }) => {
  test.beforeEach((context) => {
    context.skip(!works, `the binding has no ${kernel} op on this device`);
  });

  test('give the maps and gradients of the portable ops, be the maps small or so large that the norm counts', () => {
    fc.assert(
      fc.property(shapes, depths, fc.constantFrom(1, 60), ([n, height, width], channels, sd) => {
        const shape = [n, height, width, channels];
        const fast = activate(make(channels), shape, sd);
        const portable = activate(portableKernels.normalisedActivation(channels), shape, sd);
        expect(relativeError(fast.y, portable.y)).toBeLessThan(rounding);
        expect(relativeError(fast.dz, portable.dz)).toBeLessThan(rounding);
        expect(relativeError(fast.db, portable.db)).toBeLessThan(roundingOfSums);
      }),
      { numRuns: 60 },
    );
  });

  test('let a NaN through, which the coordinator must hear of', () => {
    const z = drawNormal('z', [1, 3, 3, 8]);
    z.values[5] = NaN;
    const layer = make(8);
    const activated = layer.forward(upload(z), upload(drawNormal('b', [8])));
    const { dz } = layer.backward(upload(drawNormal('dy', z.shape)), activated);
    layer.close();
    expect(valuesOf(activated.y)[5]).toBeNaN();
    expect(valuesOf(dz).some(Number.isNaN)).toBe(true);
  });
});

describe('the native op', () => {
  test.beforeEach((context) => {
    context.skip(!hasNative, 'the binding has no native op on this device');
  });

  test('is chosen, and keeps one tensor besides y', () => {
    const { y, saved } = chosen.normalisedActivation(8).forward(tf.ones([1, 2, 2, 8]), tf.ones([8]));
    expect(saved).toHaveLength(1);
    dispose(y, ...saved);
  });

  test('refuses shapes that do not fit, in words', () => {
    const layer = nativeNormalisedActivation();
    const [maps, rows, b] = [tf.ones([1, 2, 2, 8]), tf.ones([4, 8]), tf.ones([7])];
    expect(() => layer.forward(rows, b)).toThrow('[N,H,W,C]');
    expect(() => layer.forward(maps, b)).toThrow('one value for each');
    expect(() => layer.backward(rows, { y: maps, saved: [maps] })).toThrow('the shape of a');
  });
});

describe('the ops over pixels and over all parameters', () => {
  test.beforeEach((context) => {
    context.skip(deviceInfo().kind !== 'cpu' || !hasNativeShiftPixels() || !hasNativeUpdate(), 'the binding has no such op');
  });

  test('are chosen', () => {
    expect(chosen).toMatchObject({ shiftPixels: nativeShiftPixels, update: nativeUpdate, squaredNorm: nativeSquaredNorm });
  });

  test("shift pixels to the bits of TensorFlow's ops, whatever the size", () => {
    const sizes = fc.record({
      ...{ count: fc.integer({ min: 1, max: 4 }), channels: fc.constantFrom(1, 3) },
      ...{ height: fc.integer({ min: 1, max: 70 }), width: fc.integer({ min: 1, max: 70 }) },
    });
    fc.assert(
      fc.property(sizes, fc.nat(5), fc.boolean(), (size, padding, isOfEach) => {
        const { count, height, width, channels } = size;
        const bytes = Uint8Array.from(drawIntegers('pixels', count * height * width * channels, 256));
        const shifts = drawNormal('shifts', [isOfEach ? count : 1, channels], 100);
        const [ours, theirs] = [nativeShiftPixels, portableShiftPixels].map((shiftPixels) =>
          tf.tidy(() => shiftPixels({ ...size, bytes }, shifts, padding)),
        );
        expect(ours!.shape).toEqual(theirs!.shape);
        expect(valuesOf(ours!)).toEqual(valuesOf(theirs!));
      }),
      { numRuns: 60 },
    );
  });

  test('add up the squares of all blocks, in double precision', () => {
    const lengths = fc.array(fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 65_000, max: 70_000 })), {
      ...{ minLength: 1, maxLength: 5 },
    });
    fc.assert(
      fc.property(lengths, (each) => {
        const blocks = each.map((length, i) => drawNormal(`block ${i}`, [length]));
        const tensors = blocks.map(upload);
        const exact = blocks.reduce((sum, { values }) => sum + inner(values, values), 0);
        // The result is rounded to float32, once.
        expect(Math.abs(nativeSquaredNorm(tensors) / exact - 1)).toBeLessThan(2 ** -24);
        expect(Math.abs(portableSquaredNorm(tensors) / exact - 1)).toBeLessThan(roundingOfSums);
        dispose(...tensors);
      }),
      { numRuns: 30 },
    );
  });

  test.each([NaN, Infinity])('say of a norm with %d in it that it is not finite', (value) => {
    const blocks = [tf.ones([100]), tf.tensor1d([1, value, 3])];
    expect(nativeSquaredNorm(blocks)).toSatisfy((norm: number) => !Number.isFinite(norm));
    dispose(...blocks);
  });

  test('refuse sizes that do not fit, in words', () => {
    const [weight, velocity] = [new Variable([4]), new Variable([4])];
    const rates = { learningRate: 1, momentum: 0, weightDecay: 0, gradientScale: 1 };
    expect(() => {
      nativeUpdate([{ weight, velocity, gradient: tf.ones([3]), rates }]);
    }).toThrow('the same sizes');
    const pixels = { count: 1, height: 2, width: 2, channels: 3, bytes: new Uint8Array(12) };
    expect(() => nativeShiftPixels(pixels, drawNormal('shifts', [1, 2]), 0)).toThrow('each of the channels');
    weight.close();
    velocity.close();
  });
});

test("the fast response norms refuse a rule that is not the paper's", () => {
  const rule = { radius: 2, bias: 2, alpha: 1e-4, beta: 1 };
  expect(() => bandedResponseNorm(8, rule)).toThrow('0.75');
  expect(() => nativeNormalisedActivation(rule)).toThrow('0.75');
});

describe('the ops for bias and ReLU', () => {
  test.beforeEach((context) => {
    context.skip(deviceInfo().kind !== 'cpu' || !hasNativeRectified(), 'the binding has no such ops');
  });

  test('are chosen, for ReLU alone', () => {
    expect(chosen.activation('relu')).toBe(nativeRectified);
    expect(chosen.activation('tanh')).not.toBe(nativeRectified);
  });

  test("give the values of TensorFlow's ops to the bit, and their gradients, for rows and for maps", () => {
    const rows = fc.tuple(fc.integer({ min: 1, max: 20 }), fc.constantFrom(1, 12, 2048, 2051));
    const maps = fc.tuple(shapes, depths).map(([[n, height, width], channels]) => [n, height, width, channels]);
    fc.assert(
      fc.property(fc.oneof(rows, maps), (shape) => {
        const [ours, theirs] = [activate(nativeRectified, shape, 1), activate(rectified, shape, 1)];
        expect(ours.y).toEqual(theirs.y);
        // Theirs is -0 where a negative gradient ends.
        expect(ours.dz).toEqual(theirs.dz.map((value) => value + 0));
        expect(relativeError(ours.db, theirs.db)).toBeLessThan(roundingOfSums);
      }),
      { numRuns: 60 },
    );
  });

  test('let a NaN through, which the coordinator must hear of', () => {
    const z = drawNormal('z', [2, 5]);
    z.values[7] = NaN;
    const activated = nativeRectified.forward(upload(z), upload(drawNormal('b', [5])));
    const { dz } = nativeRectified.backward(upload(drawNormal('dy', z.shape)), activated);
    expect(valuesOf(activated.y)[7]).toBeNaN();
    dispose(dz);
  });

  test('refuse shapes that do not fit, in words', () => {
    const [rows, b] = [tf.ones([4, 8]), tf.ones([7])];
    expect(() => nativeRectified.forward(rows, b)).toThrow('one value for each of the C');
    expect(() => nativeRectified.backward(tf.ones([8, 4]), { y: rows, saved: [] })).toThrow('the shape of y');
    dispose(rows, b);
  });
});

describe('the op for the loss', () => {
  test.beforeEach((context) => {
    context.skip(deviceInfo().kind !== 'cpu' || !hasNativeSoftmaxCrossEntropy(), 'the binding has no such op');
  });

  test('is chosen', () => {
    expect(chosen.softmaxCrossEntropy).toBe(nativeSoftmaxCrossEntropy);
  });

  test("gives the loss, gradients and scores of TensorFlow's ops, be logits small or large", () => {
    const sizes = fc.tuple(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 1, max: 1000 }));
    fc.assert(
      fc.property(sizes, fc.constantFrom(0.01, 2, 100), ([pictures, classes], sd) => {
        const logits = upload(drawNormal('logits', [pictures, classes], sd));
        const labels = uploadInt32(drawIntegers('labels', pictures, classes), [pictures]);
        const ours = nativeSoftmaxCrossEntropy(logits, labels, 2 * pictures);
        const theirs = portableSoftmaxCrossEntropy(logits, labels, 2 * pictures);
        const { lossSum, ...counts } = theirs.scores;
        expect(ours.scores).toMatchObject(counts);
        expect(Math.abs(ours.scores.lossSum - lossSum)).toBeLessThanOrEqual(rounding * Math.max(pictures, lossSum));
        // With one class nothing is left of the difference; ours is within the rounding of a share as well.
        const expected = valuesOf(theirs.dLogits);
        const difference = norm(valuesOf(ours.dLogits).map((value, at) => value - expected[at]!));
        expect(difference).toBeLessThanOrEqual((rounding * Math.sqrt(pictures)) / (2 * pictures));
        dispose(logits, labels);
      }),
      { numRuns: 60 },
    );
  });

  test('lets what is not finite through, and counts no hit beside it', () => {
    for (const value of [NaN, Infinity]) {
      const logits = upload({ shape: [1, 3], values: Float32Array.of(value, 0, 1) });
      const { scores } = nativeSoftmaxCrossEntropy(logits, uploadInt32(Int32Array.of(2), [1]), 1);
      expect(scores).toEqual({ lossSum: NaN, top1: 0, top5: 0 });
    }
  });

  test('refuses a label that is no class', () => {
    for (const label of [-1, 3])
      expect(() => nativeSoftmaxCrossEntropy(tf.ones([1, 3]), uploadInt32(Int32Array.of(label), [1]), 1)).toThrow(
        'one of the classes',
      );
  });
});
