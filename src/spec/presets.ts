// Named recipes: what the paper, its author's later code (cuda-convnet2), Caffe's bvlc_alexnet and a TensorFlow fine-tuning script
// (kratzert/finetune_alexnet_with_tensorflow) train with; docs/recipes.md has them side by side.
// Invariant: a preset only stands where nothing was said: every field that a file or a flag gives wins over it.

import type { PresetName, RunConfig } from './config.ts';

/** The sizes of pictures are those of the full network, and are left out for smaller ones. */
type Sizes = Partial<Pick<RunConfig, 'cropSize' | 'resizeSize'>>;
type Recipe = Partial<Omit<RunConfig, keyof Sizes>>;

const paper = {
  cropMode: 'center',
  channelOrder: 'rgb',
  pixels: 'centred',
  augment: 'crop-flip',
  pcaColour: 0.1,
  activation: 'relu',
  activationPlace: 'before-lrn',
  pool: 'overlapping',
  lrn: 'tower',
  lrnK: 2,
  lrnAlpha: 1e-4,
  init: 'paper',
  lr: 0.01,
  lrScheduler: 'plateau',
  lrGamma: 0.1,
  lrDrops: 3,
  biasLr: 1,
  biasDecay: 1,
  momentum: 0.9,
  weightDecay: 0.0005,
  batch: 128,
  epochs: 90,
  dropout: 0.5,
  dropoutForm: 'paper',
} as const satisfies Recipe;

/** ceil(1,281,167 / 256): Caffe counts iterations, we count epochs of ILSVRC-2012. */
const caffeStepsPerEpoch = 5005;

const presets: Readonly<Record<PresetName, { readonly recipe: Recipe; readonly sizes: Sizes }>> = {
  paper: { recipe: paper, sizes: {} },
  'cuda-convnet2': {
    recipe: {
      ...paper,
      activationPlace: 'after-pool',
      // (minDiv + scale / size * sum of squares) ^ 0.75 with minDiv 2, scale 1e-4, size 5.
      lrnK: 2,
      lrnAlpha: 1e-4 / 5,
      init: 'cuda-convnet2',
      // Four levels, the last 250 times below the first. Its biases have a schedule of their own; here they follow the weights'.
      lr: 0.02,
      lrScheduler: 'exponential',
      lrDrops: 3,
      lrMin: 0.02 / 250,
      biasLr: 2,
      biasDecay: 0,
      dropoutForm: 'inverted',
    },
    sizes: {},
  },
  caffe: {
    recipe: {
      ...paper,
      channelOrder: 'bgr',
      pcaColour: 0,
      lrn: 'global',
      // (k + alpha / n * sum of squares) ^ 0.75 with alpha 1e-4, n 5.
      lrnK: 1,
      lrnAlpha: 1e-4 / 5,
      init: 'caffe',
      lrScheduler: 'step',
      lrSteps: [1, 2, 3, 4].map((drop) => (drop * 100_000) / caffeStepsPerEpoch),
      biasLr: 2,
      biasDecay: 0,
      batch: 256,
      epochs: 450_000 / caffeStepsPerEpoch,
      dropoutForm: 'inverted',
    },
    sizes: { cropSize: 227 },
  },
  /** For fine-tuning: `pretrained` and `skip` are the user's to give; skipped layers are drawn as Caffe draws them (our choice). */
  kratzert: {
    recipe: {
      ...paper,
      cropMode: 'squash',
      channelOrder: 'bgr',
      mean: [124, 117, 104],
      augment: 'none',
      pcaColour: 0,
      lrn: 'global',
      lrnK: 1,
      lrnAlpha: 2e-5,
      init: 'caffe',
      lrScheduler: 'constant',
      momentum: 0,
      weightDecay: 0,
      epochs: 10,
      dropoutForm: 'inverted',
    },
    sizes: { cropSize: 227, resizeSize: 227 },
  },
};

/** The fields of a file and of flags, over those of the preset that they name. A name that is no preset is left to the schema. */
export function withPreset(given: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const { preset = 'paper', network = 'alexnet', lrScheduler } = given;
  if (typeof preset !== 'string' || !Object.hasOwn(presets, preset)) return { ...given };
  const { recipe, sizes } = presets[preset as PresetName];
  const isFullSize = typeof network === 'string' && network.startsWith('alexnet');
  const fields = { ...recipe, ...(isFullSize ? sizes : {}) };
  if (lrScheduler === undefined || lrScheduler === recipe.lrScheduler) return { ...fields, ...given };
  // They say something to the preset's scheduler and would contradict another.
  const { lrSteps: _steps, lrGamma: _gamma, lrDrops: _drops, lrMin: _min, ...rest } = fields;
  return { ...rest, ...given };
}
