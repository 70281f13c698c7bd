// Every layer's backward pass is the derivative of its forward pass: by central differences, and by tfjs's own tape where tfjs has the layer.

import { describe, expect, test } from 'vitest';
import tf from '@tensorflow/tfjs-node-gpu';
import type { TensorData } from '../../src/spec/exchange.ts';
import type { Activation } from '../../src/tower/activation.ts';
import { dropoutBackward, dropoutForward, trainingMask } from '../../src/tower/dropout.ts';
import { chooseKernels, portableKernels } from '../../src/tower/kernels.ts';
import type { Kernels } from '../../src/tower/kernels.ts';
import { addBias, biasGradient, dense } from '../../src/tower/linearMap.ts';
import type { LinearMap } from '../../src/tower/linearMap.ts';
import {
  composedNormalisedActivation,
  hasNativeNormalisedActivation,
  nativeNormalisedActivation,
} from '../../src/tower/normalisedActivation.ts';
import { reluBackward, reluForward } from '../../src/tower/relu.ts';
import { bandedResponseNorm, portableResponseNorm } from '../../src/tower/responseNorm.ts';
import type { ResponseNorm } from '../../src/tower/responseNorm.ts';
import { upload, uploadInt32 } from '../../src/tower/tensorflow.ts';
import type { Tensor } from '../../src/tower/tensorflow.ts';
import { disjointPoolWindow, poolWindow } from '../../src/spec/network.ts';
import { nonlinearities } from '../../src/tower/activation.ts';
import { sizeOf } from '../../src/spec/layout.ts';
import { randomKey, randomPermutation, randomUint32 } from '../../src/spec/random.ts';
import { drawIntegers, drawNormal, inner, norm, relativeError, valuesOf } from './tensors.ts';

interface LayerUnderTest {
  readonly layer: string;
  readonly inputs: readonly TensorData[];
  readonly forward: (inputs: readonly Tensor[]) => Tensor;
  /** A gradient for each input. */
  readonly backward: (inputs: readonly Tensor[], dy: Tensor) => readonly Tensor[];
  /** The same function out of tfjs's differentiable ops. */
  readonly tfjs?: (inputs: readonly Tensor[]) => Tensor;
  /** Central differences move every value by this much. */
  readonly h: number;
  /** Between it and tfjs; where it is left out, sums in another order. */
  readonly tolerance?: number;
}

/**
 * Linear in each input: a difference has no error of its own, and a large step drowns the rounding. Exact powers of two, so that x + h and
 * x - h lose little.
 */
const linearStep = 1 / 4;
/** The error of a central difference falls with h squared, that of rounding grows with 1 / h; both are below 2e-4 here. */
const smoothStep = 1 / 64;

function linearLayer(
  map: LinearMap,
  shapes: readonly (readonly number[])[],
): Pick<LayerUnderTest, 'inputs' | 'forward' | 'backward' | 'h'> {
  return {
    inputs: shapes.map((shape, i) => drawNormal(`input ${i}`, shape)),
    forward: ([x, w, b]) => addBias(map.apply(x!, w!), b!),
    backward: ([x, w], dy) => [map.inputGradient(dy, w!, x!.shape), map.weightGradient(x!, dy, w!.shape), biasGradient(dy)],
    h: linearStep,
  };
}

/** Values around zero that are further from zero, and from each other, than twice any step below 1 / 8. */
function spacedValues(shape: readonly number[]): TensorData {
  const count = sizeOf(shape);
  const order = randomPermutation(randomKey(1, 'synthetic', 'spaced'), count);
  return { shape, values: Float32Array.from(order, (place) => (place - Math.floor(count / 2) + 0.5) / 4) };
}

function maxPoolLayer(kernels: Kernels, window = poolWindow): Omit<LayerUnderTest, 'layer'> {
  const maxPool = kernels.maxPool(window);
  return {
    inputs: [spacedValues([2, 7, 8, 8])],
    forward: ([x]) => maxPool.forward(x!).y,
    backward: ([x], dy) => [maxPool.backward(dy, { x: x!, ...maxPool.forward(x!) })],
    tfjs: ([x]) => tf.maxPool(x as tf.Tensor4D, window.size, window.stride, 'valid'),
    h: 1 / 16, // Piecewise linear: no window's maximum changes its place.
  };
}

function lossLayer({ softmaxCrossEntropy }: Kernels): Omit<LayerUnderTest, 'layer'> {
  const labels = uploadInt32(drawIntegers('labels', 6, 12), [6]) as tf.Tensor1D;
  return {
    inputs: [drawNormal('logits', [6, 12], 2)],
    forward: ([logits]) => tf.tensor1d([softmaxCrossEntropy(logits!, labels, 6).scores.lossSum / 6]),
    backward: ([logits], dy) => [tf.mul(softmaxCrossEntropy(logits!, labels, 6).dLogits, dy)],
    tfjs: ([logits]) => tf.reshape(tf.losses.softmaxCrossEntropy(tf.oneHot(labels, 12), logits!), [1]),
    h: smoothStep,
  };
}

function responseNormLayer(norm: ResponseNorm, rule: { bias: number; alpha: number; sd: number }): Omit<LayerUnderTest, 'layer'> {
  return {
    inputs: [drawNormal('maps', [2, 3, 4, 12], rule.sd)],
    forward: ([x]) => norm.forward(x!).y,
    backward([x], dy) {
      const { y, saved } = norm.forward(x!);
      return [norm.backward(dy, x!, y, saved)];
    },
    tfjs: ([x]) => tf.localResponseNormalization(x as tf.Tensor4D, 2, rule.bias, rule.alpha, 0.75),
    h: smoothStep * rule.sd,
  };
}

/** Bias, ReLU and response norm; z + b keeps away from zero by more than a step, so that ReLU's corner is not met. */
function normalisedActivationLayer(
  layer: Activation,
  { bias, alpha }: { bias: number; alpha: number },
): Omit<LayerUnderTest, 'layer'> {
  const { shape, values } = spacedValues([2, 3, 3, 11]);
  return {
    inputs: [{ shape, values: values.map((value) => value / 16) }, drawNormal('b', [11], 1e-3)],
    forward: ([z, b]) => layer.forward(z!, b!).y,
    backward([z, b], dy) {
      const { dz, db } = layer.backward(dy, layer.forward(z!, b!));
      return [dz, db];
    },
    tfjs: ([z, b]) => tf.localResponseNormalization(tf.relu(tf.add<tf.Tensor4D>(z!, b!)), 2, bias, alpha, 0.75),
    h: 1 / 512,
  };
}

const papersNorm = { radius: 2, bias: 2, alpha: 1e-4, beta: 0.75, sd: 60 }; // Maps so large that the paper's alpha counts.
const steepNorm = { ...papersNorm, alpha: 0.5, sd: 1 };
const mask = upload({ shape: [3, 10], values: Float32Array.from(drawIntegers('mask', 30, 2)) });
const inverted = { rate: 0.25, form: 'inverted' } as const;

/** Sums of up to 225 float32 products, in another order than tfjs's: 2^-24 times the root of their number is 9e-7. */
const roundingOfSums = 2e-6;
/** Winograd's transforms multiply that by up to 5 (src/tower/native/winograd.h). */
const roundingOfWinograd = 5e-6;

function convolutionLayers(name: string, { convolution }: Kernels, tolerance: number): LayerUnderTest[] {
  const blocks = convolution({ kernelSize: 5, stride: 2, padding: 'valid' });
  const narrow = convolution({ kernelSize: 3, stride: 1, padding: 'same' });
  const wide = convolution({ kernelSize: 5, stride: 1, padding: 'same' });
  return [
    {
      layer: `convolution 5x5, stride 2, ${name}`,
      tolerance,
      ...linearLayer(blocks, [[2, 12, 11, 3], [5, 5, 3, 4], [4]]),
      tfjs: ([x, w, b]) => tf.add(tf.conv2d(x as tf.Tensor4D, w as tf.Tensor4D, 2, 'valid'), b!),
    },
    {
      layer: `convolution 3x3, padded by 1, ${name}`,
      tolerance,
      ...linearLayer(narrow, [[2, 5, 6, 6], [3, 3, 6, 8], [8]]),
      tfjs: ([x, w, b]) => tf.add(tf.conv2d(x as tf.Tensor4D, w as tf.Tensor4D, 1, 'same'), b!),
    },
    {
      layer: `convolution 5x5, padded by 2, ${name}`,
      tolerance,
      ...linearLayer(wide, [[2, 7, 5, 6], [5, 5, 6, 8], [8]]),
      tfjs: ([x, w, b]) => tf.add(tf.conv2d(x as tf.Tensor4D, w as tf.Tensor4D, 1, 'same'), b!),
    },
  ];
}

const layers: readonly LayerUnderTest[] = [
  ...convolutionLayers('portable', portableKernels, roundingOfSums),
  ...convolutionLayers('chosen', chooseKernels(), roundingOfWinograd),
  {
    layer: 'dense',
    ...linearLayer(dense, [[4, 9], [9, 6], [6]]),
    tfjs: ([x, w, b]) => tf.add(tf.matMul(x as tf.Tensor2D, w as tf.Tensor2D), b!),
  },
  {
    layer: 'ReLU',
    inputs: [spacedValues([4, 11])],
    forward: ([x]) => reluForward(x!),
    backward: ([x], dy) => [reluBackward(dy, reluForward(x!))],
    tfjs: ([x]) => tf.relu(x!),
    h: 1 / 16, // Piecewise linear: no value crosses zero.
  },
  ...(['tanh', 'sigmoid'] as const).map((name) => ({
    layer: name,
    inputs: [drawNormal('x', [4, 11])],
    forward: ([x]: readonly Tensor[]) => nonlinearities[name].forward(x!),
    backward: ([x]: readonly Tensor[], dy: Tensor) => [nonlinearities[name].backward(dy, nonlinearities[name].forward(x!))],
    tfjs: ([x]: readonly Tensor[]) => tf[name](x!),
    h: smoothStep,
  })),
  { layer: "response norm, portable, the paper's alpha", ...responseNormLayer(portableResponseNorm(12), papersNorm) },
  { layer: "response norm, banded, the paper's alpha", ...responseNormLayer(bandedResponseNorm(12), papersNorm) },
  { layer: 'response norm, portable, large alpha', ...responseNormLayer(portableResponseNorm(12, steepNorm), steepNorm) },
  { layer: 'response norm, banded, large alpha', ...responseNormLayer(bandedResponseNorm(12, steepNorm), steepNorm) },
  {
    layer: 'bias, ReLU and response norm, composed',
    ...normalisedActivationLayer(composedNormalisedActivation(bandedResponseNorm(11, steepNorm)), steepNorm),
  },
  ...(hasNativeNormalisedActivation()
    ? [
        {
          layer: 'bias, ReLU and response norm, native',
          ...normalisedActivationLayer(nativeNormalisedActivation(steepNorm), steepNorm),
        },
      ]
    : []),
  { layer: 'max pool, portable', ...maxPoolLayer(portableKernels) },
  { layer: 'max pool, chosen', ...maxPoolLayer(chooseKernels()) },
  { layer: 'max pool of disjoint windows, portable', ...maxPoolLayer(portableKernels, disjointPoolWindow) },
  { layer: 'max pool of disjoint windows, chosen', ...maxPoolLayer(chooseKernels(), disjointPoolWindow) },
  {
    layer: 'dropout, inverted',
    inputs: [drawNormal('units', [3, 10])],
    forward: ([x]) => dropoutForward(x!, trainingMask(mask, inverted)),
    backward: (_, dy) => [dropoutBackward(dy, trainingMask(mask, inverted))],
    tfjs: ([x]) => tf.div(tf.mul(x!, mask), 0.75),
    h: linearStep,
  },
  { layer: 'softmax cross-entropy, portable', ...lossLayer(portableKernels) },
  { layer: 'softmax cross-entropy, chosen', ...lossLayer(chooseKernels()) },
];

/** See `smoothStep`; a slip in a gradient is of the order of 1. */
const differenceError = 5e-4;
const directions = 8;

describe.each(layers)('$layer', ({ inputs, forward, backward, tfjs, h, tolerance = roundingOfSums }) => {
  const tensors = inputs.map(upload);
  const yShape = forward(tensors).shape;
  const dy = drawNormal('dy', yShape);

  test('goes back along its central differences', () => {
    const gradients = backward(tensors, upload(dy)).map(valuesOf);
    for (const [i, { shape, values }] of inputs.entries()) {
      const gradient = gradients[i]!;
      expect(norm(gradient)).toBeGreaterThan(0);
      for (let direction = 0; direction < directions; direction++) {
        const key = randomKey(direction, 'synthetic', `signs of input ${i}`);
        const moved = (sign: 1 | -1): Float32Array =>
          values.map((value, at) => value + (randomUint32(key, at) % 2 === 0 ? sign : -sign) * h);
        const [up, down] = [moved(1), moved(-1)];
        const scored = (moved: Float32Array): number =>
          inner(
            valuesOf(forward(tensors.map((tensor, at) => (at === i ? upload({ shape, values: moved }) : tensor)))),
            dy.values,
          );
        // What float32 made of the step, so that the rounding of x + h is no error.
        const step = up.map((value, at) => value - down[at]!);
        const error = scored(up) - scored(down) - inner(gradient, step);
        expect(Math.abs(error) / (2 * h * norm(gradient))).toBeLessThan(differenceError);
      }
    }
  });

  test.runIf(tfjs !== undefined)("agrees with tfjs's forward pass and tape", () => {
    const expected = tf.grads((...args: Tensor[]) => tfjs!(args))(tensors, upload(dy));
    const actual = backward(tensors, upload(dy));
    expect(relativeError(valuesOf(forward(tensors)), valuesOf(tfjs!(tensors)))).toBeLessThan(tolerance);
    expect(actual.length).toBe(inputs.length);
    for (const [i, gradient] of actual.entries()) {
      expect(gradient.shape).toEqual(inputs[i]!.shape);
      expect(relativeError(valuesOf(gradient), valuesOf(expected[i]!))).toBeLessThan(tolerance);
    }
  });
});
