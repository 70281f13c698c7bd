// The network as a table: layers, widths, kernels, strides, padding, where LRN and pooling sit, and which layers cross between the towers.
// Invariant: nothing else in the code knows a layer's size; shapes, parameters, work and traffic are all read off a NetworkSpec.
// Source: section 3.5 and figure 2 of "ImageNet Classification with Deep Convolutional Neural Networks" (2012), called "the paper" below.

import { UsageError } from './errors.ts';

/** A convolution, its ReLU, and what follows it: LRN, then overlapping max pooling (paper, sections 3.1, 3.3, 3.4). */
export interface ConvSpec {
  readonly kind: 'conv';
  readonly name: string;
  /** Kernels of both towers together; each tower owns half. */
  readonly kernels: number;
  readonly kernelSize: number;
  readonly stride: number;
  /** `same`: zeros all around, so that a stride of 1 keeps height and width; `valid`: none. */
  readonly padding: 'same' | 'valid';
  /** Sees the maps of both towers (a crossing) instead of its own tower's only. */
  readonly crosses: boolean;
  readonly responseNorm: boolean;
  readonly pool: boolean;
  /** Initial bias under the paper's initialisation (section 5). */
  readonly paperBias: 0 | 1;
}

/** A fully connected layer. All of them cross: by gathering both towers' features, or by summing partial results (the last one). */
export interface DenseSpec {
  readonly kind: 'dense';
  readonly name: string;
  /** Units of both towers together; `classes` for the last layer. */
  readonly units: number | 'classes';
  /** ReLU and dropout follow every dense layer but the last (paper, sections 3.5 and 4.2). */
  readonly hidden: boolean;
  readonly paperBias: 0 | 1;
}

export interface NetworkSpec {
  readonly name: string;
  /** Pictures are square: this many pixels a side, three channels. */
  readonly inputSize: number;
  /** Rows and columns of zeros added at the bottom and on the right, after the mean is subtracted (docs/adr/0002-input-padding.md). */
  readonly inputPadding: number;
  readonly convs: readonly ConvSpec[];
  readonly denses: readonly DenseSpec[];
  /** The nonlinearity of every layer but the last (paper, section 3.1). */
  readonly activation: ActivationName;
  /** In layers with LRN: convolution, activation, LRN, pooling (paper), or convolution, LRN, pooling, activation (the author's code). */
  readonly activationPlace: 'before-lrn' | 'after-pool';
  readonly poolWindow: PoolWindow;
  readonly lrn: LrnSpec;
}

export type ActivationName = 'relu' | 'tanh' | 'sigmoid';

/** Side of a pooling window, and the distance of two. */
export interface PoolWindow {
  readonly size: number;
  readonly stride: number;
}

/** y = x / (bias + alpha * sum of x^2 over 2 radius + 1 neighbouring maps)^beta (paper, section 3.3). */
export interface ResponseNormRule {
  readonly radius: number;
  readonly bias: number;
  readonly alpha: number;
  readonly beta: number;
}

export interface LrnSpec extends ResponseNormRule {
  /** Neighbours are maps of the same tower, or of both: then the maps at the border cross (docs/adr/0012-global-lrn.md). */
  readonly scope: 'tower' | 'global';
}

/** Overlapping pooling: windows of 3, two apart (paper, section 3.4). */
export const poolWindow: PoolWindow = { size: 3, stride: 2 };
/** Windows that touch: the pooling that the paper compares with. */
export const disjointPoolWindow: PoolWindow = { size: 2, stride: 2 };

/** Response normalisation over 5 neighbouring maps of one tower (paper, section 3.3). */
export const responseNorm: ResponseNormRule = { radius: 2, bias: 2, alpha: 1e-4, beta: 0.75 };

export const inputChannels = 3;

/** What tells the presets apart; everything else about their eight layers is the paper's. */
interface Widths {
  readonly name: string;
  readonly inputSize: number;
  readonly inputPadding: number;
  readonly conv1: { readonly kernelSize: number; readonly stride: number };
  /** Of conv1 to conv5, both towers together. */
  readonly kernels: readonly [number, number, number, number, number];
  /** Units of fc6 and of fc7, both towers together. */
  readonly hidden: number;
}

function eightLayers({ name, inputSize, inputPadding, conv1, kernels, hidden }: Widths): NetworkSpec {
  const [k1, k2, k3, k4, k5] = kernels;
  const normedAndPooled = { kind: 'conv', crosses: false, responseNorm: true, pool: true } as const;
  const small = { kind: 'conv', kernelSize: 3, stride: 1, padding: 'same', responseNorm: false } as const;
  return {
    name,
    inputSize,
    inputPadding,
    convs: [
      { name: 'conv1', kernels: k1, ...normedAndPooled, ...conv1, padding: 'valid', paperBias: 0 },
      { name: 'conv2', kernels: k2, ...normedAndPooled, kernelSize: 5, stride: 1, padding: 'same', paperBias: 1 },
      { name: 'conv3', kernels: k3, ...small, crosses: true, pool: false, paperBias: 0 },
      { name: 'conv4', kernels: k4, ...small, crosses: false, pool: false, paperBias: 1 },
      { name: 'conv5', kernels: k5, ...small, crosses: false, pool: true, paperBias: 1 },
    ],
    denses: [
      { kind: 'dense', name: 'fc6', units: hidden, hidden: true, paperBias: 1 },
      { kind: 'dense', name: 'fc7', units: hidden, hidden: true, paperBias: 1 },
      { kind: 'dense', name: 'fc8', units: 'classes', hidden: false, paperBias: 0 },
    ],
    activation: 'relu',
    activationPlace: 'before-lrn',
    poolWindow,
    lrn: { scope: 'tower', ...responseNorm },
  };
}

/**
 * The paper's one-GPU network (section 3.5): half the kernels in conv1 to conv4, conv5 and the dense layers as they are, and every layer sees
 * all maps. Two workers compute it with a crossing at every convolution but the first (docs/adr/0012-global-lrn.md).
 */
function oneTower({ name, convs, lrn, ...rest }: NetworkSpec): NetworkSpec {
  return {
    ...rest,
    name: `${name}-one-tower`,
    convs: convs.map((conv, i) => ({
      ...conv,
      kernels: i < convs.length - 1 ? conv.kernels / 2 : conv.kernels,
      crosses: i > 0,
    })),
    lrn: { ...lrn, scope: 'global' },
  };
}

/** The paper's. */
const alexnet = eightLayers({
  name: 'alexnet',
  inputSize: 224,
  inputPadding: 3,
  conv1: { kernelSize: 11, stride: 4 },
  kernels: [96, 256, 384, 384, 256],
  hidden: 4096,
});

/** A quarter of the width on 67 pixels: trains on two CPU cores within minutes. */
const compact = eightLayers({
  name: 'compact',
  inputSize: 67,
  inputPadding: 0,
  conv1: { kernelSize: 11, stride: 4 },
  kernels: [24, 64, 96, 96, 64],
  hidden: 512,
});

/** For tests: milliseconds a step, and a final map of 2x2, so that the order of fc6's rows matters. */
const tiny = eightLayers({
  name: 'tiny',
  inputSize: 51,
  inputPadding: 0,
  conv1: { kernelSize: 5, stride: 2 },
  kernels: [8, 16, 24, 24, 16],
  hidden: 32,
});

/** The networks that `--network` knows. All have the paper's eight layers. */
export const networks = {
  alexnet,
  compact,
  tiny,
  'alexnet-one-tower': oneTower(alexnet),
  'compact-one-tower': oneTower(compact),
  'tiny-one-tower': oneTower(tiny),
} as const satisfies Record<string, NetworkSpec>;

export type NetworkName = keyof typeof networks;

/** The fields of a run's config that shape its network. */
export interface NetworkChoice {
  readonly network: NetworkName;
  readonly cropSize?: number | undefined;
  readonly activation?: ActivationName;
  readonly activationPlace?: NetworkSpec['activationPlace'];
  readonly pool?: 'overlapping' | 'disjoint';
  readonly lrn?: 'tower' | 'global' | 'none';
  readonly lrnK?: number;
  readonly lrnAlpha?: number;
}

/** The network of a run: its table, with what the config changes in it. Throws UsageError where the crop does not fit. */
export function networkFor(choice: NetworkChoice): NetworkSpec {
  const spec: NetworkSpec = networks[choice.network];
  const { activation = spec.activation, activationPlace = spec.activationPlace, pool, lrn, lrnK, lrnAlpha } = choice;
  const side = spec.inputSize + spec.inputPadding;
  const { cropSize = spec.inputSize } = choice;
  if (cropSize > side)
    throw new UsageError(`crop-size: ${spec.name} sees ${String(side)} pixels a side, not ${String(cropSize)}`);
  return {
    ...spec,
    inputSize: cropSize,
    inputPadding: side - cropSize,
    activation,
    activationPlace,
    convs: lrn === 'none' ? spec.convs.map((conv) => ({ ...conv, responseNorm: false })) : spec.convs,
    poolWindow: pool === 'disjoint' ? disjointPoolWindow : spec.poolWindow,
    lrn: {
      ...spec.lrn,
      scope: lrn === 'global' ? 'global' : spec.lrn.scope,
      bias: lrnK ?? spec.lrn.bias,
      alpha: lrnAlpha ?? spec.lrn.alpha,
    },
  };
}

/** Height, width and channels. */
export interface MapShape {
  readonly height: number;
  readonly width: number;
  readonly channels: number;
}

/** A convolution's shapes in one tower. */
export interface ConvPlan {
  readonly spec: ConvSpec;
  /** What its own tower feeds it; a crossing layer gets the peer's maps of the same shape as well. */
  readonly input: MapShape;
  /** After the convolution. */
  readonly maps: MapShape;
  /** After pooling, or the maps themselves. */
  readonly output: MapShape;
}

/** A dense layer's shapes in one tower. */
export interface DensePlan {
  readonly spec: DenseSpec;
  /** Features its own tower feeds it. */
  readonly inputFeatures: number;
  /** Positions that the features are laid out over, channels fastest: 6x6 for fc6, else 1. */
  readonly positions: number;
  /** Units its tower computes: half, or all the classes (as partial sums). */
  readonly units: number;
}

export interface NetworkPlan {
  readonly spec: NetworkSpec;
  readonly classes: number;
  readonly convs: readonly ConvPlan[];
  readonly denses: readonly DensePlan[];
}

/** Infers every shape of one tower; throws UsageError where a layer does not fit its input or cannot be halved. */
export function planNetwork(spec: NetworkSpec, classes: number): NetworkPlan {
  if (!Number.isInteger(classes) || classes < 2) {
    throw new UsageError(`a network needs at least 2 classes, not ${String(classes)}`);
  }
  const side = spec.inputSize + spec.inputPadding;
  let shape: MapShape = { height: side, width: side, channels: inputChannels };
  const convs = spec.convs.map((conv): ConvPlan => {
    const { kernelSize, stride } = conv;
    const padding = conv.padding === 'same' ? kernelSize - 1 : 0;
    const maps: MapShape = {
      height: windows(shape.height + padding, kernelSize, stride, conv.name),
      width: windows(shape.width + padding, kernelSize, stride, conv.name),
      channels: half(conv.kernels, conv.name),
    };
    const output: MapShape = conv.pool
      ? {
          height: windows(maps.height, spec.poolWindow.size, spec.poolWindow.stride, `${conv.name}'s pooling`),
          width: windows(maps.width, spec.poolWindow.size, spec.poolWindow.stride, `${conv.name}'s pooling`),
          channels: maps.channels,
        }
      : maps;
    const plan: ConvPlan = { spec: conv, input: shape, maps, output };
    shape = output;
    return plan;
  });
  let positions = shape.height * shape.width;
  let features = positions * shape.channels;
  const denses = spec.denses.map((dense): DensePlan => {
    const units = dense.units === 'classes' ? classes : half(dense.units, dense.name);
    const plan: DensePlan = { spec: dense, inputFeatures: features, positions, units };
    features = units;
    positions = 1;
    return plan;
  });
  return { spec, classes, convs, denses };
}

function half(total: number, name: string): number {
  if (total % 2 !== 0) throw new UsageError(`${name} has ${String(total)} kernels or units: two towers need an even number`);
  return total / 2;
}

function windows(size: number, window: number, stride: number, name: string): number {
  const count = Math.floor((size - window) / stride) + 1;
  if (count < 1) throw new UsageError(`${name}: a window of ${String(window)} does not fit an input of ${String(size)}`);
  return count;
}
