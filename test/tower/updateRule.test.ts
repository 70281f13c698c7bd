// The update rule keeps rate, momentum, decay and clipping apart: v <- m v - d r w - r s g, w <- w + v, for every combination of them.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { towerParameters } from '../../src/spec/layout.ts';
import { networks, planNetwork } from '../../src/spec/network.ts';
import { chooseKernels, portableKernels } from '../../src/tower/kernels.ts';
import { Parameters } from '../../src/tower/parameters.ts';
import { upload } from '../../src/tower/tensorflow.ts';
import { drawNormal, relativeError } from './tensors.ts';

const block = towerParameters(planNetwork(networks.tiny, 10), 0).find(({ name }) => name === 'conv1.weight')!;
const initial = drawNormal('weights', block.shape).values;

/** The rule in float64, over the given gradients: weights and velocities. */
function updated(
  gradients: readonly Float32Array[],
  { learningRate: r, momentum: m, weightDecay: d, gradientScale: s }: Record<string, number>,
): { w: number[]; v: number[] } {
  let w = [...initial];
  let v = w.map(() => 0);
  for (const g of gradients) {
    v = v.map((velocity, i) => m! * velocity - d! * r! * w[i]! - r! * s! * g[i]!);
    w = w.map((weight, i) => weight + v[i]!);
  }
  return { w, v };
}

/** A dozen float32 operations in each of three updates. */
const rounding = 3e-6;

test.each([
  { kernel: 'portable', update: portableKernels.update },
  { kernel: 'chosen', update: chooseKernels().update },
])('three updates by $kernel kernels are those of the rule, with and without momentum, decay and clipping', ({ update }) => {
  const rates = fc.record({
    learningRate: fc.constantFrom(0.5, 0.01),
    momentum: fc.constantFrom(0, 0.5, 0.9),
    weightDecay: fc.constantFrom(0, 0.25),
    gradientScale: fc.constantFrom(1, 0.125),
  });
  const gradients = [0, 1, 2].map((step) => drawNormal(`gradient ${step}`, block.shape).values);
  fc.assert(
    fc.property(rates, (chosen) => {
      const parameters = new Parameters([block], update);
      parameters.load(block.name, 'weights', initial);
      for (const values of gradients) {
        parameters.update(new Map([[block.name, upload({ shape: block.shape, values })]]), () => chosen);
      }
      const { w, v } = updated(gradients, chosen);
      expect(relativeError(parameters.save(block.name, 'weights'), w)).toBeLessThan(rounding);
      expect(relativeError(parameters.save(block.name, 'momentum'), v)).toBeLessThan(rounding);
      parameters.close();
    }),
  );
});
