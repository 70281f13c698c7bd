// Which pictures make up the batch of a step. Everything is a pure function of the step, so that a resumed run goes on where it stopped.
// Invariant: an epoch hands out every picture exactly once; its last batch is short where the batch does not divide the count.

import type { RunConfig } from '../spec/config.ts';
import { randomKey, randomPermutation } from '../spec/random.ts';
import { stepsPerEpoch } from '../spec/schedule.ts';

export interface SamplerOptions {
  readonly seed: number;
  readonly shuffle: RunConfig['shuffle'];
  /** Pictures of an epoch. */
  readonly count: number;
  /** Pictures of a step. */
  readonly batch: number;
}

export interface SampledBatch {
  /** Counted from 0. */
  readonly epoch: number;
  /** Pictures of the batch, in order. */
  readonly indices: Uint32Array;
}

/** The order of an epoch's pictures: a permutation of 0..count-1 keyed by seed and epoch, or as they lie. */
export function epochOrder({ seed, shuffle, count }: Omit<SamplerOptions, 'batch'>, epoch: number): Uint32Array {
  if (shuffle === 'none') return Uint32Array.from({ length: count }, (_, i) => i);
  return randomPermutation(randomKey(seed, 'order', '', epoch), count);
}

/**
 * A function from a step (counted from 0 over the whole run) to its batch. It remembers the order of the epoch it was last asked for,
 * which changes its speed and nothing else.
 */
export function createSampler(options: SamplerOptions): (step: number) => SampledBatch {
  const { count, batch } = options;
  const steps = stepsPerEpoch(options, count);
  let remembered: { readonly epoch: number; readonly order: Uint32Array } | undefined;
  return (step) => {
    const epoch = Math.floor(step / steps);
    if (remembered?.epoch !== epoch) remembered = { epoch, order: epochOrder(options, epoch) };
    const first = (step % steps) * batch;
    return { epoch, indices: remembered.order.slice(first, first + batch) };
  };
}
