// The switches of the paper's ideas, one at a time and some together, on the tiny network: the tests go through all of them.

import { networkFor, planNetwork } from '../../src/spec/network.ts';
import type { NetworkChoice, NetworkPlan } from '../../src/spec/network.ts';

export interface Switched {
  readonly variant: string;
  readonly plan: NetworkPlan;
}

/** Strong enough for the response norm to change a map by tens of percent. */
const steep = { lrnK: 1, lrnAlpha: 0.02 } as const;

const choices: Readonly<Record<string, Omit<NetworkChoice, 'network'> & Partial<NetworkChoice>>> = {
  tanh: { activation: 'tanh' },
  sigmoid: { activation: 'sigmoid' },
  'disjoint pooling': { pool: 'disjoint' },
  'no LRN': { lrn: 'none' },
  'LRN of another k and alpha': steep,
  'global LRN': { lrn: 'global', ...steep },
  'activation after the pooling': { activationPlace: 'after-pool', ...steep },
  'tanh after the pooling, global LRN': { activation: 'tanh', activationPlace: 'after-pool', lrn: 'global', ...steep },
  'one tower': { network: 'tiny-one-tower', ...steep },
  'one tower, disjoint pooling, no LRN': { network: 'tiny-one-tower', pool: 'disjoint', lrn: 'none' },
};

/** The plans of all variants. */
export function switchedPlans(classes: number): Switched[] {
  return Object.entries(choices).map(([variant, choice]) => ({
    variant,
    plan: planNetwork(networkFor({ network: 'tiny', ...choice }), classes),
  }));
}
