// The course of a run as pure functions of its config: how many steps, and the learning rate at each.
// Invariant: nothing here remembers anything. What the plateau schedule (paper, section 5) must know of the past is a ScheduleState, plain
// JSON that goes into checkpoints, so a resumed run continues where the other stopped. Formulas: docs/recipes.md.

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

/** What the plateau schedule remembers of the evaluations so far. */
export interface ScheduleState {
  /** Lowest top-1 error on the test split, 0..1; null before the first evaluation. */
  readonly bestError: number | null;
  /** Evaluations since the best one or the last drop. */
  readonly evaluationsSince: number;
  readonly drops: number;
}

export const initialScheduleState: ScheduleState = { bestError: null, evaluationsSince: 0, drops: 0 };

/** The state after one more evaluation; `top1` is the share of right answers. Scores that are not numbers count as no better. */
export function scheduleAfterEvaluation(
  config: Pick<RunConfig, 'lrPatience' | 'lrDrops'>,
  state: ScheduleState,
  { top1 }: { readonly top1: number },
): ScheduleState {
  const error = 1 - top1;
  if (Number.isFinite(error) && (state.bestError === null || error < state.bestError)) {
    return { ...state, bestError: error, evaluationsSince: 0 };
  }
  const evaluationsSince = state.evaluationsSince + 1;
  if (evaluationsSince < config.lrPatience || state.drops >= config.lrDrops) return { ...state, evaluationsSince };
  return { ...state, evaluationsSince: 0, drops: state.drops + 1 };
}

/** The fields of a config that say how the rate moves. */
export type ScheduleChoice = Pick<
  RunConfig,
  | 'batch'
  | 'epochs'
  | 'steps'
  | 'lr'
  | 'lrScheduler'
  | 'lrSteps'
  | 'lrGamma'
  | 'lrDrops'
  | 'lrMin'
  | 'lrWarmupEpochs'
  | 'lrWarmupDecay'
>;

/** The rate of step 0, 1, ...: that of the schedule, times a factor that rises in a straight line while the run warms up. */
export function learningRateAt(config: ScheduleChoice, step: number, trainCount: number, state: ScheduleState): number {
  const warmupSteps = config.lrWarmupEpochs * stepsPerEpoch(config, trainCount);
  const risen = step >= warmupSteps ? 1 : config.lrWarmupDecay + ((1 - config.lrWarmupDecay) * step) / warmupSteps;
  return risen * scheduledRate(config, step, trainCount, state);
}

function scheduledRate(config: ScheduleChoice, step: number, trainCount: number, { drops }: ScheduleState): number {
  const { lr, lrMin, lrGamma, lrDrops } = config;
  const progress = Math.min(1, step / totalSteps(config, trainCount));
  switch (config.lrScheduler) {
    case 'constant':
      return lr;
    case 'plateau':
      return lr * lrGamma ** drops;
    case 'step': {
      const epoch = step / stepsPerEpoch(config, trainCount);
      return lr * lrGamma ** config.lrSteps.filter((at) => epoch >= at).length;
    }
    case 'exponential': {
      // lrDrops + 1 equal stretches of the run, the last of them at lrMin.
      const passed = Math.min(lrDrops, Math.floor(progress * (lrDrops + 1)));
      return lr * (lrMin / lr) ** (passed / lrDrops);
    }
    case 'cosine':
      return lrMin + ((lr - lrMin) * (1 + Math.cos(Math.PI * progress))) / 2;
  }
}
