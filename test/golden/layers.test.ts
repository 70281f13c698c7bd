// Every layer by itself gives PyTorch's float64 numbers, forward and backward (test/golden/layers.json, made by scripts/golden.py).

import tf from '@tensorflow/tfjs-node-gpu';
import { describe, expect, test } from 'vitest';
import type { TensorData } from '../../src/spec/exchange.ts';
import type { ParameterBlock } from '../../src/spec/layout.ts';
import { nonlinearities } from '../../src/tower/activation.ts';
import { dropoutAtTest, dropoutBackward, dropoutForward, trainingMask } from '../../src/tower/dropout.ts';
import { addBias, biasGradient, dense } from '../../src/tower/linearMap.ts';
import type { LinearMap } from '../../src/tower/linearMap.ts';
import { chooseKernels, portableKernels } from '../../src/tower/kernels.ts';
import { hasNativeNormalisedActivation, nativeNormalisedActivation } from '../../src/tower/normalisedActivation.ts';
import { Parameters } from '../../src/tower/parameters.ts';
import { reluBackward, reluForward } from '../../src/tower/relu.ts';
import { bandedResponseNorm, portableResponseNorm } from '../../src/tower/responseNorm.ts';
import { upload, uploadInt32 } from '../../src/tower/tensorflow.ts';
import type { Tensor } from '../../src/tower/tensorflow.ts';
import { relativeError, valuesOf } from '../tower/tensors.ts';
import { layerCases } from './goldenFiles.ts';

/** Rounding of float32 sums of up to 363 products: 2^-24 times the root of their number is 1.1e-6. */
const roundingOfSums = 2e-6;
/** Winograd's transforms multiply that by up to 5 (src/tower/native/winograd.h). */
const roundingOfWinograd = 5e-6;
/** A handful of float32 operations, each within 2^-24 = 6e-8. */
const roundingOfAFew = 5e-7;

function expectClose(actual: Tensor, expected: TensorData, tolerance: number): void {
  expect(actual.shape).toEqual(expected.shape);
  expect(relativeError(valuesOf(actual), expected.values)).toBeLessThan(tolerance);
}

type GoldenMap = Record<'x' | 'w' | 'b' | 'y' | 'dy' | 'dx' | 'dw' | 'db', TensorData>;

function expectLinearMap(map: LinearMap, golden: GoldenMap, tolerance = roundingOfSums): void {
  const [x, w, b, dy] = [golden.x, golden.w, golden.b, golden.dy].map(upload) as [Tensor, Tensor, Tensor, Tensor];
  expectClose(addBias(map.apply(x, w), b), golden.y, tolerance);
  expectClose(map.inputGradient(dy, w, x.shape), golden.dx, tolerance);
  expectClose(map.weightGradient(x, dy, w.shape), golden.dw, tolerance);
  expectClose(biasGradient(dy), golden.db, roundingOfSums);
}

describe.each([
  { kernels: 'portable', convolution: portableKernels.convolution, tolerance: roundingOfSums },
  { kernels: 'chosen', convolution: chooseKernels().convolution, tolerance: roundingOfWinograd },
])('$kernels kernels', ({ convolution, tolerance }) => {
  test.each(layerCases('convolution'))('convolution: $name', (golden) => {
    const { stride, padding, w } = golden;
    const kernelSize = w.shape[0]!;
    expectLinearMap(
      padding.top > 0
        ? convolution({ kernelSize, stride, padding: 'same' })
        : onPadded(convolution({ kernelSize, stride, padding: 'valid' }), padding),
      golden,
      tolerance,
    );
  });
});

/** The map of a network that pads its pictures before they reach the first layer. */
function onPadded(map: LinearMap, { bottom, right }: { bottom: number; right: number }): LinearMap {
  const pad = (x: Tensor): Tensor => tf.pad(x, [[0, 0], [0, bottom], [0, right], [0, 0]]); // prettier-ignore
  return {
    apply: (x, w) => map.apply(pad(x), w),
    inputGradient(dy, w, [n, height, width, channels]) {
      const dPadded = map.inputGradient(dy, w, [n!, height! + bottom, width! + right, channels!]);
      return tf.slice(dPadded, [0, 0, 0, 0], [n!, height!, width!, channels!]);
    },
    weightGradient: (x, dy, wShape) => map.weightGradient(pad(x), dy, wShape),
  };
}

test.each(layerCases('dense'))('$name', (golden) => {
  expectLinearMap(dense, golden);
});

test.each(layerCases('relu'))('$name, whose gradient at zero is zero', ({ x, y, dy, dx }) => {
  const output = reluForward(upload(x));
  expect(relativeError(valuesOf(reluBackward(upload(dy), output)), dx.values)).toBe(0);
  expect(relativeError(valuesOf(output), y.values)).toBe(0);
});

test.each([...layerCases('tanh'), ...layerCases('sigmoid')])('$name', ({ kind, x, y, dy, dx }) => {
  const output = nonlinearities[kind].forward(upload(x));
  expectClose(nonlinearities[kind].backward(upload(dy), output), dx, roundingOfAFew);
  expectClose(output, y, roundingOfAFew);
});

describe.each([
  { kernel: 'portable', make: portableResponseNorm },
  { kernel: 'banded', make: bandedResponseNorm },
])('response norm, $kernel', ({ make }) => {
  test.each(layerCases('responseNorm'))('$name', (golden) => {
    const layer = make(golden.x.shape.at(-1)!, golden);
    const x = upload(golden.x);
    const { y, saved } = layer.forward(x);
    expectClose(layer.backward(upload(golden.dy), x, y, saved), golden.dx, 2e-6); // A difference of two terms, one a sum of five.
    expectClose(y, golden.y, roundingOfAFew);
    layer.close();
  });
});

// The norm is odd: |x| goes to |y|, and a gradient changes its sign where x did. So ReLU and a bias of zero leave the golden numbers as they are.
describe('response norm, native', () => {
  test.beforeEach((context) => {
    context.skip(!hasNativeNormalisedActivation(), 'the binding has no native op');
  });

  test.each(layerCases('responseNorm'))('$name', (golden) => {
    const { x, y, dy, dx } = golden;
    const turned = ({ shape, values }: TensorData): TensorData => ({
      shape,
      values: values.map((value, i) => value * Math.sign(x.values[i]!)),
    });
    const layer = nativeNormalisedActivation(golden);
    const activated = layer.forward(upload(turned(x)), tf.zeros(x.shape.slice(-1)));
    expectClose(layer.backward(upload(turned(dy)), activated).dz, turned(dx), 2e-6);
    expectClose(activated.y, turned(y), roundingOfAFew);
  });
});

const bothKernels = [
  { kernel: 'portable', kernels: portableKernels },
  { kernel: 'chosen', kernels: chooseKernels() },
];

describe.each(bothKernels)('max pool, $kernel', ({ kernels }) => {
  test.each(layerCases('maxPool'))('$name', (golden) => {
    const maxPool = kernels.maxPool(golden);
    const x = upload(golden.x);
    const pooled = maxPool.forward(x);
    expectClose(maxPool.backward(upload(golden.dy), { x, ...pooled }), golden.dx, roundingOfAFew); // Sums of up to four.
    expect(valuesOf(pooled.y)).toEqual(golden.y.values);
  });
});

test.each(layerCases('dropout'))('dropout: $name', (golden) => {
  const x = upload(golden.x);
  const mask = trainingMask(upload(golden.mask), golden);
  expectClose(dropoutForward(x, mask), golden.y, roundingOfAFew);
  expectClose(dropoutBackward(upload(golden.dy), mask), golden.dx, roundingOfAFew);
  expectClose(dropoutAtTest(x, golden), golden.yTest, roundingOfAFew);
});

describe.each(bothKernels)('softmax cross-entropy, $kernel', ({ kernels: { softmaxCrossEntropy } }) => {
  test.each(layerCases('softmaxCrossEntropy'))('$name', (golden) => {
    const pictures = golden.labels.length;
    const { scores, dLogits } = softmaxCrossEntropy(upload(golden.logits), uploadInt32(golden.labels, [pictures]), pictures);
    expect(relativeError([scores.lossSum / pictures], [golden.loss])).toBeLessThan(roundingOfAFew);
    // exp of a difference of logits near 300 inherits their spacing, 2^-15, but only shares that are far below 1 feel it.
    expectClose(dLogits, golden.dLogits, 2e-6);
    expect({ top1: scores.top1, top5: scores.top5 }).toEqual({ top1: golden.top1, top5: golden.top5 });
  });
});

describe.each(bothKernels)('update rule, $kernel', ({ kernels }) => {
  test.each(layerCases('update'))('$name', (golden) => {
    const role = golden.biasLr === 1 ? 'weight' : 'bias';
    const parameters = new Parameters([blockOf(role, golden.w.shape)], kernels.update);
    parameters.load('only', 'weights', golden.w.values);
    for (const { lr, clipScale, g, w, v } of golden.updates) {
      parameters.update(new Map([['only', upload(g)]]), (block) => ({
        learningRate: lr * (block.role === 'bias' ? golden.biasLr : 1),
        momentum: golden.momentum,
        weightDecay: golden.weightDecay * (block.role === 'bias' ? golden.biasDecay : 1),
        gradientScale: clipScale,
      }));
      expect(relativeError(parameters.save('only', 'weights'), w.values)).toBeLessThan(roundingOfAFew);
      expect(relativeError(parameters.save('only', 'momentum'), v.values)).toBeLessThan(roundingOfAFew);
    }
    parameters.close();
  });
});

function blockOf(role: ParameterBlock['role'], shape: readonly number[]): ParameterBlock {
  const size = shape.reduce((product, dimension) => product * dimension, 1);
  return {
    name: 'only',
    layer: 'only',
    role,
    shape,
    mergedName: 'only',
    mergedShape: shape,
    outer: 1,
    inputs: { start: 0, count: 1 },
    outputs: { start: 0, count: size },
    replicated: false,
    fanIn: 1,
    paperBias: 0,
  };
}
