// The course of a run as pure functions of its config: how many steps, and the learning rate at each.
// Invariant: nothing here remembers anything, so a resumed run continues where the other stopped.

import type { RunConfig } from './config.ts';

/** Steps of one epoch: the last batch may be short. */
export function stepsPerEpoch(config: Pick<RunConfig, 'batch'>, trainCount: number): number {
  return Math.ceil(trainCount / config.batch);
}

/** Steps of the whole run. */
export function totalSteps(config: Pick<RunConfig, 'batch' | 'epochs' | 'steps'>, trainCount: number): number {
  const byEpochs = Math.ceil(config.epochs * stepsPerEpoch(config, trainCount));
  return Math.min(byEpochs, config.steps ?? Infinity);
}

/** The rate of step 0, 1, ...: --lr, times --lr-gamma for each of --lr-steps (in epochs) that has passed. */
export function learningRateAt(
  config: Pick<RunConfig, 'batch' | 'lr' | 'lrSteps' | 'lrGamma'>,
  step: number,
  trainCount: number,
): number {
  const epoch = step / stepsPerEpoch(config, trainCount);
  return config.lr * config.lrGamma ** config.lrSteps.filter((at) => epoch >= at).length;
}
