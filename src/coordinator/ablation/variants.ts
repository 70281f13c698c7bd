// What an ablation compares: named variants of one config, each with every seed (paper, sections 3 and 4: what each of its ideas is worth).
// Invariant: all configs are checked before the first run, and each is the base's but for the fields that its variant names and the seed.
// The first variant is the one that the others are compared with.

import { z } from 'zod';
import { parseRunConfig } from '../../spec/config.ts';
import type { RunConfig } from '../../spec/config.ts';
import { UsageError } from '../../spec/errors.ts';
import { withPreset } from '../../spec/presets.ts';
import { readFields } from '../options.ts';

/** Config fields by name, unchecked. */
type Fields = Readonly<Record<string, unknown>>;

export interface VariantSet {
  /** Fields of every variant. */
  readonly base: Fields;
  /** What each variant changes. */
  readonly variants: Readonly<Record<string, Fields>>;
}

export interface Variant {
  readonly name: string;
  readonly seed: number;
  readonly config: RunConfig;
}

/** Pictures scaled and weights drawn so that learning starts at once: an epoch is enough to tell variants apart. */
const common = {
  network: 'compact',
  data: 'fashion-mnist',
  init: 'he',
  pixels: 'standardized',
  lr: 0.02,
  batch: 128,
  keep: 1,
} as const satisfies Partial<RunConfig>;

export type SetName = 'activations' | 'ideas';

/** The built-in comparisons; docs/ablation.md says how long they take. */
export const variantSets: Readonly<Record<SetName, VariantSet>> = {
  /**
   * Section 3.1, figure 1: how soon each nonlinearity reaches a training error. As there, nothing regularises, and each has the best of
   * a few rates; half an epoch, in which no picture comes twice.
   */
  activations: {
    base: { ...common, lrScheduler: 'constant', epochs: 0.5, dropout: 0, weightDecay: 0, augment: 'none' },
    variants: {
      'relu, rate 0.005': { activation: 'relu', lr: 0.005 },
      'relu, rate 0.01': { activation: 'relu', lr: 0.01 },
      'relu, rate 0.02': { activation: 'relu', lr: 0.02 },
      'tanh, rate 0.005': { activation: 'tanh', lr: 0.005 },
      'tanh, rate 0.01': { activation: 'tanh', lr: 0.01 },
      'tanh, rate 0.02': { activation: 'tanh', lr: 0.02 },
    },
  },
  /** Sections 3.2 to 4.2: the network without one of its ideas at a time. */
  ideas: {
    base: { ...common, lrScheduler: 'cosine', limitTrain: 10_000, epochs: 4 },
    variants: {
      'all ideas': {},
      'disjoint pooling': { pool: 'disjoint' },
      'no LRN': { lrn: 'none' },
      'no dropout': { dropout: 0 },
      'no augmentation': { augment: 'none' },
      'one tower': { network: 'compact-one-tower' },
    },
  },
};

/** A variant's name is a folder as well. */
const variantName = z
  .string()
  .regex(/^[^\p{Cc}/\\.][^\p{Cc}/\\]{0,63}$/u, 'a name of a variant has 1 to 64 characters, no / or \\, and no dot in front');

const fileSchema = z.strictObject({
  base: z.record(z.string(), z.unknown()).default({}),
  variants: z.record(variantName, z.record(z.string(), z.unknown()).nullable()),
});

/** Reads a file of variants: `base:` with config fields and `variants:` with fields by name; throws UsageError naming what is wrong. */
export function readVariantSet(file: string): VariantSet {
  const parsed = fileSchema.safeParse(readFields(file));
  if (!parsed.success) {
    const problems = parsed.error.issues.map((issue) =>
      issue.code === 'invalid_key'
        ? `${issue.path.join('.')}: ${issue.issues.map(({ message }) => message).join('; ')}`
        : `${issue.path.join('.') || 'the file'}: ${issue.message}`,
    );
    throw new UsageError(`${file}: ${problems.join('; ')}`);
  }
  const { base, variants } = parsed.data;
  if (Object.keys(variants).length === 0) throw new UsageError(`${file}: variants: name at least one`);
  return { base, variants: Object.fromEntries(Object.entries(variants).map(([name, fields]) => [name, fields ?? {}])) };
}

/**
 * Every variant with every seed, the seeds of a variant one after another. Typed fields win over the base, a variant's own over both;
 * throws UsageError naming each variant whose config is wrong.
 */
export function planVariants(set: VariantSet, typed: Fields, seeds: readonly number[], source: string): Variant[] {
  const problems: string[] = [];
  const planned = Object.entries(set.variants).flatMap(([name, own]) =>
    seeds.flatMap((seed, i) => {
      const where = `${source}, variant '${name}'`;
      try {
        if ('seed' in own || 'seed' in set.base)
          throw new UsageError(`${where}: seed: give the seeds of all variants with --seeds`);
        return [{ name, seed, config: parseRunConfig(withPreset({ ...set.base, ...typed, ...own, seed }), where) }];
      } catch (error) {
        if (!(error instanceof UsageError)) throw error;
        // Every seed has the same complaint.
        if (i === 0) problems.push(error.message);
        return [];
      }
    }),
  );
  if (problems.length > 0) throw new UsageError(problems.join('\n'));
  return planned;
}

/** `1,2,3` as seeds; throws UsageError where one is none or is there twice. */
export function parseSeeds(text: string): number[] {
  const parts = text.split(',').map((part) => part.trim());
  const seeds = parts.map(Number);
  const isWrong = parts.some((part) => !/^\d+$/.test(part)) || seeds.some((seed) => !Number.isSafeInteger(seed));
  if (isWrong || new Set(seeds).size < seeds.length) {
    throw new UsageError(`--seeds takes different whole numbers with commas between, such as 1,2,3, not '${text}'`);
  }
  return seeds;
}
