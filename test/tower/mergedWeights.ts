// Weights of a merged network for tests: He's, and biases that are nowhere zero.

import { mergedShapes, towerParameters } from '../../src/spec/layout.ts';
import type { NetworkPlan } from '../../src/spec/network.ts';
import { drawNormal } from './tensors.ts';
import type { Merged } from './towerPair.ts';

export function drawMerged(plan: NetworkPlan, name = 'weights'): Merged {
  const fanIns = new Map(towerParameters(plan, 0).map((block) => [block.mergedName, block.fanIn]));
  return new Map(
    [...mergedShapes(plan)].map(([parameter, shape]) => {
      const isBias = shape.length === 1;
      const { values } = drawNormal(`${name} ${parameter}`, shape, isBias ? 0.2 : Math.sqrt(2 / fanIns.get(parameter)!));
      return [parameter, isBias ? values.map((value) => value + 0.1) : values];
    }),
  );
}
