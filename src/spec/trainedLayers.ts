// Layers by name: which are trained (`--train-only`), and what the backward pass owes to each.
// Invariant: nothing below the lowest trained layer goes backward; both towers agree, for it follows from the config.

import { UsageError } from './errors.ts';
import type { NetworkSpec } from './network.ts';

/** The layers of a network, from the pictures up: conv1, ..., fc8. */
export function layerNames(spec: NetworkSpec): string[] {
  return [...spec.convs, ...spec.denses].map(({ name }) => name);
}

/** Throws UsageError naming the field and the network's layers where one of `names` is none of them. */
export function checkLayerNames(spec: NetworkSpec, names: readonly string[], field: string): void {
  const known = layerNames(spec);
  const unknown = names.find((name) => !known.includes(name));
  if (unknown === undefined) return;
  throw new UsageError(`${field}: ${spec.name} has no layer ${unknown}; its layers are ${known.join(', ')}`);
}

/** The gradients that a layer's backward pass computes; none at all below the lowest trained layer. */
export interface GradientsWanted {
  /** Of its weights and biases: false in a frozen layer. */
  readonly parameters: boolean;
  /** Of its input: false where nothing below is trained. */
  readonly input: boolean;
}

/** What every layer computes where only `trainOnly` are trained (all, if absent). Throws UsageError on an unknown or an empty list. */
export function gradientsWanted(spec: NetworkSpec, trainOnly?: readonly string[]): ReadonlyMap<string, GradientsWanted> {
  const names = layerNames(spec);
  const trained = trainOnly ?? names;
  checkLayerNames(spec, trained, 'train-only');
  if (trained.length === 0) throw new UsageError('train-only: name at least one layer, such as fc8');
  const lowest = names.findIndex((name) => trained.includes(name));
  return new Map(names.map((name, i) => [name, { parameters: trained.includes(name), input: i > lowest }]));
}
