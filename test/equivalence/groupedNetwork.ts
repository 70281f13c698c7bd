// The whole network as one, out of tfjs's differentiable ops: convolutions in two groups where the paper has them, nothing held by towers.
// It knows the network's table and its merged weights, and nothing of src/tower.

import tf from '@tensorflow/tfjs-node-gpu';
import { mergedShapes } from '../../src/spec/layout.ts';
import type { ConvSpec, LrnSpec, NetworkPlan } from '../../src/spec/network.ts';

export interface GroupedPass {
  readonly loss: number;
  /** [N * K]. */
  readonly logits: Float32Array;
  /** By merged name. */
  readonly gradients: ReadonlyMap<string, Float32Array>;
}

/** Loss, logits and every gradient of one training step; `masks` are what each hidden layer's units are multiplied by. */
export function groupedPass(
  plan: NetworkPlan,
  weights: ReadonlyMap<string, Float32Array>,
  { images, labels, masks }: { images: tf.Tensor; labels: tf.Tensor; masks: ReadonlyMap<string, tf.Tensor> },
): GroupedPass {
  const names = [...weights.keys()];
  const shapes = mergedShapes(plan);
  const tensors = names.map((name) => tf.tensor(weights.get(name)!, [...shapes.get(name)!]));
  let logits: tf.Tensor | undefined;
  const loss = (...parameters: tf.Tensor[]): tf.Tensor => {
    const byName = new Map(names.map((name, i) => [name, parameters[i]!]));
    logits = tf.keep(forward(plan, byName, images, masks));
    const oneHot = tf.oneHot(labels, plan.classes);
    return tf.losses.softmaxCrossEntropy(oneHot, logits);
  };
  const { value, grads } = tf.valueAndGrads(loss)(tensors);
  const pass = {
    loss: value.dataSync()[0]!,
    logits: logits!.dataSync<'float32'>(),
    gradients: new Map(names.map((name, i) => [name, grads[i]!.dataSync<'float32'>()])),
  };
  tf.dispose([value, grads, tensors, logits!]);
  return pass;
}

function forward(
  plan: NetworkPlan,
  weights: ReadonlyMap<string, tf.Tensor>,
  images: tf.Tensor,
  masks: ReadonlyMap<string, tf.Tensor>,
): tf.Tensor {
  let x = images as tf.Tensor4D;
  for (const [i, { spec }] of plan.convs.entries()) {
    const w = weights.get(`${spec.name}.weight`) as tf.Tensor4D;
    const comesLast = spec.responseNorm && plan.spec.activationPlace === 'after-pool';
    x = tf.add(convolve(x, w, spec, i === 0 || spec.crosses ? 1 : 2), weights.get(`${spec.name}.bias`)!);
    if (!comesLast) x = activate(x, plan);
    if (spec.responseNorm) x = normalise(x, plan.spec.lrn);
    if (spec.pool) x = tf.maxPool(x, plan.spec.poolWindow.size, plan.spec.poolWindow.stride, 'valid');
    if (comesLast) x = activate(x, plan);
  }
  let features: tf.Tensor = tf.reshape(x, [x.shape[0], -1]);
  for (const { spec } of plan.denses) {
    features = tf.add(tf.matMul(features, weights.get(`${spec.name}.weight`)!), weights.get(`${spec.name}.bias`)!);
    if (spec.hidden) features = tf.mul(activate(features, plan), masks.get(spec.name)!);
  }
  return features;
}

function convolve(x: tf.Tensor4D, w: tf.Tensor4D, { stride, padding }: ConvSpec, groups: 1 | 2): tf.Tensor4D {
  if (groups === 1) return tf.conv2d(x, w, stride, padding);
  const inputs = halves(x);
  return tf.concat(
    halves(w).map((kernels, group) => tf.conv2d(inputs[group]!, kernels, stride, padding)),
    3,
  );
}

/** The first and the second half of the last axis. */
function halves(x: tf.Tensor4D): [tf.Tensor4D, tf.Tensor4D] {
  const [a, b, c, channels] = x.shape;
  const half = (start: number): tf.Tensor4D => tf.slice(x, [0, 0, 0, start], [a, b, c, channels / 2]);
  return [half(0), half(channels / 2)];
}

function activate<T extends tf.Tensor>(x: T, { spec }: NetworkPlan): T {
  return tf[spec.activation](x);
}

/** Over each half of the maps, or over all. */
function normalise(x: tf.Tensor4D, { scope, radius, bias, alpha, beta }: LrnSpec): tf.Tensor4D {
  const parts = scope === 'global' ? [x] : halves(x);
  return tf.concat(
    parts.map((part) => tf.localResponseNormalization(part, radius, bias, alpha, beta)),
    3,
  );
}
