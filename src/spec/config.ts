// The config of a run: every choice that moves its numbers or its conduct, parsed once from file and flags, then trusted.
// Invariant: RunConfig is the whole of it; what a worker needs travels to it in this shape, so that two workers cannot differ.

import { z } from 'zod';
import { UsageError } from './errors.ts';
import { networks } from './network.ts';
import type { NetworkName } from './network.ts';

/** Recipes of presets.ts. */
const presetNames = ['paper', 'cuda-convnet2', 'caffe', 'kratzert'] as const;
export type PresetName = (typeof presetNames)[number];

const networkNames = Object.keys(networks) as [NetworkName, ...NetworkName[]];

const count = z.int().min(1);
/** Timers take up to 2^31 ms. */
const seconds = z.number().positive().max(2_000_000);
const fraction = z.number().min(0).lt(1);
const rgb = z.tuple([z.number(), z.number(), z.number()]);
const layerNames = z.array(z.string().min(1).max(64));

export const runConfigSchema = z.strictObject({
  preset: z.enum(presetNames).default('paper').meta({
    description: 'Recipe that the other fields start from; what is given by a flag or a file wins over it',
  }),
  network: z.enum(networkNames).default('alexnet').meta({ description: 'Layers and widths' }),
  data: z
    .string()
    .min(1)
    .default('fashion-mnist')
    .meta({
      description:
        'fashion-mnist, a folder of pictures (train/CLASS/*.jpg), a list (PATH LABEL a line), tar shards (name-{000000..000146}.tar), what ' +
        '`coordinator prepare` made, a folder of IDX or CIFAR files, or synthetic[:SIZE[,CLASSES[,COUNT]]]',
    }),
  valFraction: fraction
    .default(0.1)
    .meta({ description: 'Share of the pictures kept for testing where the data has no split of its own' }),
  onBadImage: z.enum(['skip', 'fail']).default('skip').meta({
    description: 'A picture that cannot be read: put another in its place and count it (at most 1%), or end the run (exit 5)',
  }),
  limitTrain: count
    .optional()
    .meta({ description: 'Train on N pictures only: the first ones of data in memory, evenly spread ones of files' }),
  seed: z.int().min(0).max(Number.MAX_SAFE_INTEGER).default(1).meta({ description: 'Key of every random choice' }),

  epochs: z.number().positive().default(90).meta({ description: 'Passes over the training pictures (paper: about 90)' }),
  steps: count.optional().meta({ description: 'Stop after this many steps, whatever --epochs says' }),
  batch: count.default(128).meta({ description: 'Pictures per step' }),
  replicas: count.max(64).default(1).meta({
    description: 'Pairs of towers that share every batch and sum their gradients; may be another when a run goes on',
  }),
  shuffle: z.enum(['epoch', 'none']).default('epoch').meta({ description: 'A new order every epoch, or the order of the data' }),
  augment: z.enum(['crop-flip', 'flip', 'none']).default('crop-flip').meta({
    description: 'Random crop and mirror image (paper, section 4.1), mirror image only, or neither',
  }),
  pcaColour: z.number().min(0).default(0.1).meta({
    description:
      'Standard deviation of the shift along the principal colours of RGB pictures (paper, section 4.1: 0.1); 0 for none',
  }),
  resizeSize: count
    .optional()
    .meta({ description: 'Side that pictures from files are brought to before the crop [default: 8/7 of --crop-size]' }),
  cropSize: count.optional().meta({
    description: 'Side of the crop that the network sees, zero-padded to its input where smaller (paper: 224 of 227)',
  }),
  cropMode: z.enum(['center', 'squash']).default('center').meta({
    description:
      'Bring the shorter side to --resize-size and keep the middle (paper, section 2), or squeeze the whole picture into the square',
  }),
  channelOrder: z
    .enum(['rgb', 'bgr'])
    .default('rgb')
    .meta({ description: 'Order of the colours; networks made by Caffe want bgr' }),
  pixels: z.enum(['centred', 'standardized']).default('centred').meta({
    description: 'Subtract the mean colour (paper), or divide by the standard deviation as well',
  }),
  mean: rgb.optional().meta({ description: 'Mean colour R,G,B in 0..255; taken from the training pictures otherwise' }),

  activation: z
    .enum(['relu', 'tanh', 'sigmoid'])
    .default('relu')
    .meta({ description: 'Nonlinearity (paper, section 3.1: relu)' }),
  pool: z.enum(['overlapping', 'disjoint']).default('overlapping').meta({
    description: 'Pooling windows of 3 two apart (paper, section 3.4), or of 2 two apart',
  }),
  lrn: z.enum(['tower', 'global', 'none']).default('tower').meta({
    description:
      "Response normalisation over the maps of each tower (the author's code), over all maps (Caffe; always so in one-tower networks), or none",
  }),
  lrnK: z.number().positive().default(2).meta({ description: 'k of the response normalisation (paper, section 3.3)' }),
  lrnAlpha: z.number().min(0).default(1e-4).meta({ description: 'Its alpha, of each squared neighbour (paper: 1e-4)' }),
  activationPlace: z.enum(['before-lrn', 'after-pool']).default('before-lrn').meta({
    description:
      "In conv1 and conv2: convolution, activation, LRN, pooling (paper), or convolution, LRN, pooling, activation (the author's code)",
  }),

  init: z.enum(['paper', 'he', 'cuda-convnet2', 'caffe']).default('paper').meta({
    description:
      "N(0, 0.01) and biases of 1 (paper, section 5); He: N(0, sqrt(2 / fan-in)), which leaves the first plateau at once; or as the author's code or Caffe draw",
  }),
  pretrained: z.string().min(1).optional().meta({
    description:
      'Start from the weights of a file: .npy or .npz in the layout of bvlc_alexnet, .safetensors, .onnx, or a checkpoint',
  }),
  skip: layerNames.default([]).meta({ description: 'Layers that --pretrained leaves at their initial draw, such as fc8' }),
  trainOnly: layerNames
    .optional()
    .meta({ description: 'Layers to train, such as fc7,fc8; all others keep their weights, and their dropout' }),

  lr: z.number().positive().default(0.01).meta({ description: 'Learning rate' }),
  lrScheduler: z.enum(['plateau', 'step', 'exponential', 'cosine', 'constant']).default('plateau').meta({
    description:
      'How the rate falls: when the test error stops improving (paper, section 5), at --lr-steps, in --lr-drops equal factors down to --lr-min, along a half cosine to --lr-min, or not at all',
  }),
  lrSteps: z
    .array(z.number().positive())
    .default([])
    .meta({ description: 'step: epochs after which the rate is multiplied by --lr-gamma' }),
  lrGamma: z.number().positive().lt(1).default(0.1).meta({ description: 'plateau and step: factor of the rate at each drop' }),
  lrPatience: count.default(5).meta({ description: 'plateau: evaluations without a better top-1 before the rate drops' }),
  lrDrops: count.default(3).meta({ description: 'plateau: at most this many drops (paper: 3); exponential: this many' }),
  lrMin: z.number().min(0).default(0).meta({ description: 'exponential and cosine: rate at the end' }),
  lrWarmupEpochs: z
    .number()
    .min(0)
    .default(0)
    .meta({ description: 'Epochs over which the rate first rises, in a straight line' }),
  lrWarmupDecay: z
    .number()
    .positive()
    .max(1)
    .default(0.01)
    .meta({ description: 'Factor of the rate at the start of the warm-up' }),
  momentum: fraction.default(0.9).meta({ description: 'Momentum (paper: 0.9)' }),
  weightDecay: z.number().min(0).default(0.0005).meta({ description: 'Weight decay inside the velocity (paper: 0.0005)' }),
  biasLr: z.number().min(0).default(1).meta({ description: "Factor of the rate for biases (the author's code: 2)" }),
  biasDecay: z
    .number()
    .min(0)
    .default(1)
    .meta({ description: 'Factor of the weight decay for biases (paper: 1, most descendants: 0)' }),
  dropout: fraction.default(0.5).meta({ description: 'Share of fc6 and fc7 units dropped in training' }),
  dropoutForm: z.enum(['paper', 'inverted']).default('paper').meta({
    description: 'Scale the outputs at test time (paper, section 4.2), or in training',
  }),
  microBatch: count.optional().meta({
    description:
      'Pictures that go through the convolutions at a time; the step stays one of --batch [default: what keeps feature maps in cache, 64 for alexnet]',
  }),
  clipNorm: z.number().positive().optional().meta({ description: 'Scale the gradient down to this norm over both towers' }),
  nonFinite: z.enum(['abort', 'skip']).default('abort').meta({
    description: 'A loss or gradient that is not finite: stop the run (exit 7), or skip the step (at most five)',
  }),

  checkpointEvery: count.optional().meta({ description: 'Write a checkpoint after every N steps [default: every epoch]' }),
  keep: count.default(3).meta({ description: 'Newest checkpoints to keep, beside the best' }),

  evalBatch: count.default(250).meta({ description: 'Pictures per evaluation batch' }),
  evalEvery: count.default(1).meta({ description: 'Evaluate after every N epochs, and at the end' }),

  commitEvery: z.int().min(0).default(0).meta({
    description:
      "Keep the state of every Nth step in the coordinator's memory, for a run that loses a worker to go on from; 0: the last checkpoint only",
  }),
  maxRestarts: z.int().min(0).default(3).meta({
    description: 'Lost workers in a row, without a new checkpoint or kept state in between, after which the run ends (exit 3)',
  }),
  joinTimeout: seconds.default(60).meta({ description: 'Seconds to wait for the workers, also for one that was lost' }),
  stepTimeout: seconds.default(120).meta({ description: 'Seconds a step may take before the run gives up' }),
});

/** A run's config with every default filled in. */
export type RunConfig = z.infer<typeof runConfigSchema>;

/** Parses a config from outside; throws UsageError naming each field that is wrong or contradicts another. */
export function parseRunConfig(input: unknown, source: string): RunConfig {
  const result = runConfigSchema.safeParse(input);
  const problems = result.success
    ? [...scheduleConflicts(result.data), ...replicaConflicts(result.data)]
    : result.error.issues.map((issue) => {
        const field = issue.path.join('.');
        return field === '' ? issue.message : `${field}: ${issue.message}`;
      });
  if (result.success && problems.length === 0) return result.data;
  throw new UsageError(`${source}: ${problems.join('; ')}`);
}

/** A replica without a picture would have nothing to say. */
function replicaConflicts({ batch, replicas }: RunConfig): string[] {
  if (batch >= replicas) return [];
  return [`batch ${String(batch)} is too small for ${String(replicas)} replicas, each of which takes a picture at least`];
}

/** Fields of the schedule that would be ignored, or lead nowhere. */
function scheduleConflicts({ lr, lrScheduler, lrSteps, lrMin }: RunConfig): string[] {
  const problems: string[] = [];
  if (lrSteps.length > 0 && lrScheduler !== 'step')
    problems.push(`lrSteps goes with lrScheduler step, not ${lrScheduler}: take one of the two away`);
  if (lrSteps.length === 0 && lrScheduler === 'step') problems.push('lrScheduler step needs lrSteps, such as 30,60');
  if (lrMin > lr) problems.push(`lrMin ${String(lrMin)} is above lr ${String(lr)}`);
  if (lrMin === 0 && lrScheduler === 'exponential')
    problems.push('lrScheduler exponential needs lrMin, a rate above 0 to end at');
  if (lrMin > 0 && lrScheduler !== 'exponential' && lrScheduler !== 'cosine')
    problems.push(`lrMin goes with lrScheduler exponential or cosine, not ${lrScheduler}`);
  return problems;
}
