// What a network costs, read off its plan: multiply-adds, floats that cross, and how many pictures pass the convolutions at a time.

import type { NetworkPlan } from './network.ts';

/** Multiply-adds of one forward pass of one picture through both towers. A training step costs about three times that. */
export function forwardMultiplyAdds(plan: NetworkPlan): number {
  return layerCounts(plan).reduce((sum, { forward }) => sum + forward, 0);
}

/** Multiply-adds of one training step of one picture through both towers; conv1 needs no gradient of its input. */
export function trainingMultiplyAdds(plan: NetworkPlan): number {
  return layerCounts(plan).reduce((sum, { forward, backward }) => sum + forward + backward, 0);
}

/** Multiply-adds of one picture in one layer, through both towers. */
export interface LayerCounts {
  readonly layer: string;
  readonly forward: number;
  /** Of the gradients of weights and input; conv1 needs none of its input. */
  readonly backward: number;
}

/** Multiply-adds by layer, in the order of the forward pass. */
export function layerCounts(plan: NetworkPlan): LayerCounts[] {
  const convs = plan.convs.map(({ spec, input, maps }, i) => {
    const inputs = input.channels * (spec.crosses ? 2 : 1);
    const forward = 2 * maps.height * maps.width * maps.channels * spec.kernelSize ** 2 * inputs;
    return { layer: spec.name, forward, backward: (i === 0 ? 1 : 2) * forward };
  });
  const denses = plan.denses.map(({ spec, inputFeatures, units }) => {
    const forward = 2 * inputFeatures * units * (spec.hidden ? 2 : 1);
    return { layer: spec.name, forward, backward: 2 * forward };
  });
  return [...convs, ...denses];
}

/** Floats that one tower sends for one picture in one direction of a training step. */
export function crossingFloats(plan: NetworkPlan): { forward: number; backward: number } {
  let forward = 0;
  let backward = 0;
  for (const { spec, input, maps } of plan.convs) {
    const gathered = spec.crosses ? input.height * input.width * input.channels : 0;
    const borders = spec.responseNorm && plan.spec.lrn.scope === 'global' ? maps.height * maps.width * plan.spec.lrn.radius : 0;
    forward += gathered + borders;
    backward += gathered + borders;
  }
  for (const { spec, inputFeatures, units } of plan.denses) {
    forward += spec.hidden ? inputFeatures : units;
    backward += spec.hidden ? inputFeatures : 0;
  }
  return { forward, backward };
}

/** Bytes of the largest maps of a part: beyond, they spill out of the cache before the next layer reads them (docs/performance.md). */
const microBatchBytes = 40e6;

/** Pictures that go through the convolutions at a time unless the run says otherwise: a power of two. */
export function defaultMicroBatch(plan: NetworkPlan): number {
  const bytes = plan.convs.map(({ maps }) => 4 * maps.height * maps.width * maps.channels);
  return 2 ** Math.max(0, Math.floor(Math.log2(microBatchBytes / Math.max(...bytes))));
}
