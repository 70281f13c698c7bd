// What one tower computes in a training step, as single calls that can be timed: every layer's kernels forward and backward, on random maps.
// N pictures of H x W positions with C channels, [N,H,W,C]; features [N,I]. A crossing layer's map is applied twice in a step, to its own
// half of the input and to its peer's: a case is one of the two.

import tf from '@tensorflow/tfjs-node-gpu';
import { sizeOf, towerParameters } from '../src/spec/layout.ts';
import type { ParameterBlock } from '../src/spec/layout.ts';
import type { ConvPlan, DensePlan, MapShape, NetworkPlan } from '../src/spec/network.ts';
import { hasNativeRectified, nativeRectified, rectified } from '../src/tower/activation.ts';
import type { Activation } from '../src/tower/activation.ts';
import { hasWinogradConvolution, portableConvolution, suitsWinograd, winogradConvolution } from '../src/tower/convolution.ts';
import { chooseKernels } from '../src/tower/kernels.ts';
import { addBias, biasGradient, dense } from '../src/tower/linearMap.ts';
import type { LinearMap } from '../src/tower/linearMap.ts';
import { portableMaxPool, workspaceMaxPool } from '../src/tower/maxPool.ts';
import type { MaxPool } from '../src/tower/maxPool.ts';
import {
  composedNormalisedActivation,
  hasNativeNormalisedActivation,
  nativeNormalisedActivation,
} from '../src/tower/normalisedActivation.ts';
import { Parameters } from '../src/tower/parameters.ts';
import { preparePictures } from '../src/tower/pictures.ts';
import { bandedResponseNorm, portableResponseNorm } from '../src/tower/responseNorm.ts';
import {
  hasNativeSoftmaxCrossEntropy,
  nativeSoftmaxCrossEntropy,
  portableSoftmaxCrossEntropy,
} from '../src/tower/softmaxCrossEntropy.ts';
import type { SoftmaxCrossEntropy } from '../src/tower/softmaxCrossEntropy.ts';
import { dispose } from '../src/tower/tensorflow.ts';
import type { Tensor } from '../src/tower/tensorflow.ts';

/** One call to time. */
export interface KernelCase {
  readonly layer: string;
  readonly kernel: string;
  /** What bounds it: arithmetic (of a matrix product) or memory, each tensor read or written once at least. */
  readonly work: { readonly flops: number } | { readonly bytes: number };
  /** In one step of a tower; 0 for a kernel that is there for comparison only. */
  readonly timesInStep: number;
  /** Computes once, and frees the result. */
  readonly run: () => void;
}

const bytesPerFloat = 4;

/** The cases of one tower, in the order of the layers. A case is valid until the next one is taken: then its tensors are freed. */
export function* kernelCases(plan: NetworkPlan, batch: number): Generator<KernelCase> {
  yield* pictureCases(plan.spec.inputSize, plan.spec.inputPadding, batch);
  for (const conv of plan.convs) yield* convCases(conv, batch, conv === plan.convs[0]);
  for (const layer of plan.denses) yield* denseCases(layer, batch);
  yield* lossCases(batch, plan.denses.at(-1)?.units ?? 0);
  const blocks = towerParameters(plan, 0);
  for (const name of new Set(blocks.map(({ layer }) => layer))) {
    yield* updateCases(
      name,
      blocks.filter(({ layer }) => layer === name),
    );
  }
}

function* pictureCases(size: number, padding: number, count: number): Generator<KernelCase> {
  const bytes = new Uint8Array(count * size * size * 3).fill(127);
  const pixels = { count, height: size, width: size, channels: 3, bytes };
  const rule = { size, padding, mean: [120, 120, 120], deviation: 1 };
  const { shiftPixels } = chooseKernels();
  yield {
    layer: 'pictures',
    kernel: 'uint8 to fp32, mean',
    work: { bytes: bytes.length * (1 + bytesPerFloat) },
    timesInStep: 1,
    run: () => {
      preparePictures(pixels, rule, shiftPixels).dispose();
    },
  };
}

function* convCases({ spec, input, maps, output }: ConvPlan, batch: number, isFirst: boolean): Generator<KernelCase> {
  const layer = spec.name;
  const x = randomMaps(batch, input);
  const w = tf.randomNormal<tf.Rank>([spec.kernelSize, spec.kernelSize, input.channels, maps.channels], 0, 0.01);
  const flops = 2 * batch * maps.height * maps.width * maps.channels * spec.kernelSize ** 2 * input.channels;
  const options = { layer: spec.crosses ? `${layer} (half)` : layer, x, w, flops, isFirst };
  const timesInStep = spec.crosses ? 2 : 1;
  const usesWinograd = suitsWinograd(spec) && hasWinogradConvolution();
  if (usesWinograd) yield* mapCases(winogradConvolution(spec), { ...options, by: ', winograd', timesInStep });
  yield* mapCases(portableConvolution(spec), { ...options, by: ', TensorFlow', timesInStep: usesWinograd ? 0 : timesInStep });
  dispose(x, w);

  const activation = randomMaps(batch, maps);
  if (spec.responseNorm) {
    const hasNative = hasNativeNormalisedActivation();
    const banded = composedNormalisedActivation(bandedResponseNorm(maps.channels));
    const portable = composedNormalisedActivation(portableResponseNorm(maps.channels));
    if (hasNative) yield* activationCases(layer, 'bias, relu, norm: native', nativeNormalisedActivation(), activation, 1);
    yield* activationCases(layer, 'bias, relu, norm: banded', banded, activation, hasNative ? 0 : 1);
    yield* activationCases(layer, 'bias, relu, norm: portable', portable, activation, 0);
  } else {
    yield* rectifiedCases(layer, activation);
  }
  if (spec.pool) {
    const hasWorkspace = chooseKernels().maxPool === workspaceMaxPool;
    if (hasWorkspace)
      yield* poolCases(layer, 'pool, workspace', workspaceMaxPool(), { activation, batch, output, timesInStep: 1 });
    yield* poolCases(layer, 'pool, portable', portableMaxPool(), {
      activation,
      batch,
      output,
      timesInStep: hasWorkspace ? 0 : 1,
    });
  }
  activation.dispose();
}

function* denseCases({ spec, inputFeatures, units }: DensePlan, batch: number): Generator<KernelCase> {
  const x = positiveHalf([batch, inputFeatures]);
  const w = tf.randomNormal<tf.Rank>([inputFeatures, units], 0, 0.01);
  const flops = 2 * batch * inputFeatures * units;
  const layer = spec.hidden ? `${spec.name} (half)` : spec.name;
  yield* mapCases(dense, { layer, by: '', x, w, flops, isFirst: false, timesInStep: spec.hidden ? 2 : 1 });
  dispose(x, w);
  const activation = positiveHalf([batch, units]);
  if (spec.hidden) yield* rectifiedCases(spec.name, activation);
  else yield* biasCases(spec.name, activation);
  activation.dispose();
}

function* rectifiedCases(layer: string, z: Tensor): Generator<KernelCase> {
  const hasNative = hasNativeRectified();
  if (hasNative) yield* activationCases(layer, 'bias, relu: native', nativeRectified, z, 1);
  yield* activationCases(layer, 'bias, relu: portable', rectified, z, hasNative ? 0 : 1);
}

function* lossCases(pictures: number, classes: number): Generator<KernelCase> {
  const logits = tf.randomNormal<tf.Rank>([pictures, classes]);
  const labels = tf.zeros([pictures], 'int32');
  const hasNative = hasNativeSoftmaxCrossEntropy();
  const loss = (kernel: string, softmaxCrossEntropy: SoftmaxCrossEntropy, timesInStep: number): KernelCase => ({
    layer: 'loss',
    kernel,
    work: { bytes: 2 * bytesPerFloat * pictures * classes },
    timesInStep,
    run: () => {
      softmaxCrossEntropy(logits, labels, pictures).dLogits.dispose();
    },
  });
  if (hasNative) yield loss('with gradient and scores: native', nativeSoftmaxCrossEntropy, 1);
  yield loss('with gradient and scores: portable', portableSoftmaxCrossEntropy, hasNative ? 0 : 1);
  dispose(logits, labels);
}

interface MapOptions {
  readonly layer: string;
  /** Whose kernels they are, where there is a choice. */
  readonly by: string;
  readonly x: Tensor;
  readonly w: Tensor;
  readonly flops: number;
  readonly isFirst: boolean;
  readonly timesInStep: number;
}

function* mapCases(map: LinearMap, { layer, by, x, w, flops, isFirst, timesInStep }: MapOptions): Generator<KernelCase> {
  const dy = map.apply(x, w);
  const shared = { layer, work: { flops }, timesInStep };
  yield { ...shared, kernel: `forward${by}`, run: freed(() => map.apply(x, w)) };
  yield { ...shared, kernel: `weight gradient${by}`, run: freed(() => map.weightGradient(x, dy, w.shape)) };
  if (!isFirst) yield { ...shared, kernel: `input gradient${by}`, run: freed(() => map.inputGradient(dy, w, x.shape)) };
  dy.dispose();
}

function* biasCases(layer: string, x: Tensor): Generator<KernelCase> {
  const bias = tf.randomNormal<tf.Rank>([x.shape.at(-1) ?? 1]);
  yield { layer, kernel: 'bias', work: moved(2, x), timesInStep: 1, run: freed(() => addBias(x, bias)) };
  yield { layer, kernel: 'bias gradient', work: moved(1, x), timesInStep: 1, run: freed(() => biasGradient(x)) };
  bias.dispose();
}

function* activationCases(
  layer: string,
  kernel: string,
  activation: Activation,
  z: Tensor,
  timesInStep: number,
): Generator<KernelCase> {
  const bias = tf.zeros([z.shape.at(-1) ?? 1]);
  const activated = activation.forward(z, bias);
  const forward = (): void => {
    const { y, saved } = activation.forward(z, bias);
    dispose(y, ...saved);
  };
  const backward = (): void => {
    const { dz, db } = activation.backward(z, activated);
    dispose(dz, db);
  };
  yield { layer, kernel, work: moved(2, z), timesInStep, run: forward };
  yield { layer, kernel: `${kernel}, gradient`, work: moved(3, z), timesInStep, run: backward };
  dispose(bias, activated.y, ...activated.saved);
  activation.close();
}

function* poolCases(
  layer: string,
  kernel: string,
  pool: MaxPool,
  of: { activation: Tensor; batch: number; output: MapShape; timesInStep: number },
): Generator<KernelCase> {
  const { activation: x, batch, output, timesInStep } = of;
  const pooled = pool.forward(x);
  const dy = randomMaps(batch, output);
  const work = { bytes: bytesPerFloat * (x.size + dy.size) };
  const forward = (): void => {
    const { y, workspace } = pool.forward(x);
    dispose(y, workspace);
  };
  yield { layer, kernel, work, timesInStep, run: forward };
  yield { layer, kernel: `${kernel}, gradient`, work, timesInStep, run: freed(() => pool.backward(dy, { x, ...pooled })) };
  dispose(dy, pooled.y, pooled.workspace);
}

function* updateCases(layer: string, blocks: readonly ParameterBlock[]): Generator<KernelCase> {
  const parameters = new Parameters(blocks, chooseKernels().update);
  parameters.initialise('paper', 1, 0);
  const gradients = new Map(blocks.map(({ name, shape }) => [name, tf.randomNormal<tf.Rank>([...shape], 0, 0.01)]));
  const rates = { learningRate: 0.01, momentum: 0.9, weightDecay: 0.0005, gradientScale: 1 };
  const floats = blocks.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  yield {
    layer,
    kernel: 'update',
    work: { bytes: 5 * bytesPerFloat * floats }, // Reads weight, velocity and gradient, writes the first two.
    timesInStep: 1,
    run: () => {
      // `update` frees what it is given: a clone shares the values.
      parameters.update(new Map([...gradients].map(([name, gradient]) => [name, gradient.clone()])), () => rates);
    },
  };
  dispose(...gradients.values());
  parameters.close();
}

function randomMaps(batch: number, { height, width, channels }: MapShape): Tensor {
  return positiveHalf([batch, height, width, channels]);
}

/** Normal numbers after ReLU: half of them zero, as in the maps of a network. */
function positiveHalf(shape: number[]): Tensor {
  return tf.tidy(() => tf.relu(tf.randomNormal<tf.Rank>(shape)));
}

function moved(times: number, x: Tensor): { bytes: number } {
  return { bytes: times * bytesPerFloat * x.size };
}

function freed(compute: () => Tensor): () => void {
  return () => {
    compute().dispose();
  };
}
