// The config of a run: every choice that moves its numbers or its conduct, parsed once from file and flags, then trusted.
// Invariant: RunConfig is the whole of it; what a worker needs travels to it in this shape, so that two workers cannot differ.

import { z } from 'zod';
import { UsageError } from './errors.ts';
import { networks } from './network.ts';
import type { NetworkName } from './network.ts';

const networkNames = Object.keys(networks) as [NetworkName, ...NetworkName[]];

const count = z.int().min(1);
/** Timers take up to 2^31 ms. */
const seconds = z.number().positive().max(2_000_000);
const fraction = z.number().min(0).lt(1);
const rgb = z.tuple([z.number(), z.number(), z.number()]);

export const runConfigSchema = z.strictObject({
  network: z.enum(networkNames).default('alexnet').meta({ description: 'Layers and widths' }),
  data: z.string().min(1).default('fashion-mnist').meta({
    description: 'fashion-mnist, a folder of four IDX files, or synthetic[:SIZE[,CLASSES[,COUNT]]]',
  }),
  limitTrain: count.optional().meta({ description: 'Train on the first N pictures only' }),
  seed: z.int().min(0).max(Number.MAX_SAFE_INTEGER).default(1).meta({ description: 'Key of every random choice' }),

  epochs: z.number().positive().default(90).meta({ description: 'Passes over the training pictures (paper: about 90)' }),
  steps: count.optional().meta({ description: 'Stop after this many steps, whatever --epochs says' }),
  batch: count.default(128).meta({ description: 'Pictures per step' }),
  shuffle: z.enum(['epoch', 'none']).default('epoch').meta({ description: 'A new order every epoch, or the order of the data' }),
  augment: z.enum(['crop-flip', 'flip', 'none']).default('crop-flip').meta({
    description: 'Random crop and mirror image (paper, section 4.1), mirror image only, or neither',
  }),
  pixels: z.enum(['centred', 'standardized']).default('centred').meta({
    description: 'Subtract the mean colour (paper), or divide by the standard deviation as well',
  }),
  mean: rgb.optional().meta({ description: 'Mean colour R,G,B in 0..255; taken from the training pictures otherwise' }),

  init: z.enum(['paper', 'he']).default('paper').meta({
    description:
      'N(0, 0.01) and biases of 1 (paper, section 5), or He: N(0, sqrt(2 / fan-in)), which leaves the first plateau at once',
  }),
  lr: z.number().positive().default(0.01).meta({ description: 'Learning rate' }),
  lrSteps: z
    .array(z.number().positive())
    .default([])
    .meta({ description: 'Epochs after which the rate is multiplied by --lr-gamma' }),
  lrGamma: z.number().positive().default(0.1).meta({ description: 'Factor of the rate at each of --lr-steps' }),
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
  microBatch: count.default(64).meta({
    description:
      'Pictures that go through the convolutions at a time, so that feature maps stay in cache; the step stays one of --batch',
  }),
  clipNorm: z.number().positive().optional().meta({ description: 'Scale the gradient down to this norm over both towers' }),
  nonFinite: z.enum(['abort', 'skip']).default('abort').meta({
    description: 'A loss or gradient that is not finite: stop the run (exit 7), or skip the step (at most five)',
  }),

  evalBatch: count.default(250).meta({ description: 'Pictures per evaluation batch' }),
  evalEvery: count.default(1).meta({ description: 'Evaluate after every N epochs, and at the end' }),

  joinTimeout: seconds.default(60).meta({ description: 'Seconds to wait for the workers' }),
  stepTimeout: seconds.default(120).meta({ description: 'Seconds a step may take before the run gives up' }),
});

/** A run's config with every default filled in. */
export type RunConfig = z.infer<typeof runConfigSchema>;

/** Parses a config from outside; throws UsageError naming each field that is wrong. */
export function parseRunConfig(input: unknown, source: string): RunConfig {
  const result = runConfigSchema.safeParse(input);
  if (result.success) return result.data;
  const problems = result.error.issues.map((issue) => {
    const field = issue.path.join('.');
    return field === '' ? issue.message : `${field}: ${issue.message}`;
  });
  throw new UsageError(`${source}: ${problems.join('; ')}`);
}
