// Where each tower's weights lie in the whole network. A tower holds blocks: all outputs it owns by some of the inputs. The merged,
// layout-free network (checkpoints, pretrained weights) holds each layer once: conv [kh, kw, in, out], grouped conv [kh, kw, in/2, out],
// dense [in, out] with rows ordered (position, channel), bias [out].
// Invariant: a block is rows of the merged tensor, seen as [outer * in, out], in their order, and of each the same range of outputs.

import { UsageError } from './errors.ts';
import type { NetworkPlan } from './network.ts';
import { inputChannels } from './network.ts';

export type TowerIndex = 0 | 1;
export const towers = [0, 1] as const satisfies readonly TowerIndex[];

export function otherTower(tower: TowerIndex): TowerIndex {
  return tower === 0 ? 1 : 0;
}

interface Range {
  readonly start: number;
  readonly count: number;
}

/** One tensor that a tower trains, and the place it has in the merged network. */
export interface ParameterBlock {
  /** `conv1.weight`, `conv1.bias`; a crossing layer has `conv3.weight.own` and `conv3.weight.peer`. */
  readonly name: string;
  readonly layer: string;
  readonly role: 'weight' | 'bias';
  readonly shape: readonly number[];
  readonly mergedName: string;
  readonly mergedShape: readonly number[];
  /** The merged tensor as [outer, in, out]. */
  readonly outer: number;
  readonly inputs: Range;
  readonly outputs: Range;
  /** Both towers hold the same values (fc8's bias): tower 0 speaks for it. */
  readonly replicated: boolean;
  /** Inputs that one output sums over, in the whole network: He initialisation's fan-in. */
  readonly fanIn: number;
  /** Initial bias under the paper's initialisation. */
  readonly paperBias: 0 | 1;
}

/** The parameters of one tower, in the order of the layers. */
export function towerParameters(plan: NetworkPlan, tower: TowerIndex): ParameterBlock[] {
  const blocks: ParameterBlock[] = [];

  function add(layer: {
    name: string;
    kernel: readonly number[];
    /** Rows are laid out over this many positions, each with all the channels. */
    outer: number;
    ownInputs: number;
    /** Which halves of the input the layer multiplies: its tower's only, or both. */
    sees: 'own' | 'both' | 'all';
    ownOutputs: number;
    outputs: 'halves' | 'all';
    fanIn: number;
    paperBias: 0 | 1;
  }): void {
    const common = { layer: layer.name, fanIn: layer.fanIn, paperBias: layer.paperBias };
    const split = layer.outputs === 'halves';
    const outputs: Range = { start: split ? tower * layer.ownOutputs : 0, count: layer.ownOutputs };
    const allOutputs = layer.ownOutputs * (split ? 2 : 1);
    const mergedInputs = layer.sees === 'both' ? 2 * layer.ownInputs : layer.ownInputs;
    const isDense = layer.kernel.length === 0;
    const mergedShape = isDense ? [layer.outer * mergedInputs, allOutputs] : [...layer.kernel, mergedInputs, allOutputs];
    const shape = isDense
      ? [layer.outer * layer.ownInputs, layer.ownOutputs]
      : [...layer.kernel, layer.ownInputs, layer.ownOutputs];
    const weight = {
      ...common,
      role: 'weight',
      shape,
      mergedName: `${layer.name}.weight`,
      mergedShape,
      outer: layer.outer,
      outputs,
    } as const;
    const rows = (half: number): Range => ({ start: half * layer.ownInputs, count: layer.ownInputs });
    if (layer.sees !== 'both') {
      blocks.push({ ...weight, name: `${layer.name}.weight`, inputs: rows(0), replicated: false });
    } else if (split) {
      blocks.push({ ...weight, name: `${layer.name}.weight.own`, inputs: rows(tower), replicated: false });
      blocks.push({ ...weight, name: `${layer.name}.weight.peer`, inputs: rows(otherTower(tower)), replicated: false });
    } else {
      blocks.push({ ...weight, name: `${layer.name}.weight`, inputs: rows(tower), replicated: false });
    }
    blocks.push({
      ...common,
      role: 'bias',
      name: `${layer.name}.bias`,
      shape: [layer.ownOutputs],
      mergedName: `${layer.name}.bias`,
      mergedShape: [allOutputs],
      outer: 1,
      inputs: { start: 0, count: 1 },
      outputs,
      replicated: !split,
    });
  }

  for (const { spec, input, maps } of plan.convs) {
    const kernel = [spec.kernelSize, spec.kernelSize];
    const area = spec.kernelSize ** 2;
    const sees = spec.crosses ? 'both' : input.channels === inputChannels && spec === plan.spec.convs[0] ? 'all' : 'own';
    add({
      name: spec.name,
      kernel,
      outer: area,
      ownInputs: input.channels,
      sees,
      ownOutputs: maps.channels,
      outputs: 'halves',
      fanIn: area * input.channels * (spec.crosses ? 2 : 1),
      paperBias: spec.paperBias,
    });
  }
  for (const { spec, inputFeatures, positions, units } of plan.denses) {
    add({
      name: spec.name,
      kernel: [],
      outer: positions,
      ownInputs: inputFeatures / positions,
      sees: 'both',
      ownOutputs: units,
      outputs: spec.hidden ? 'halves' : 'all',
      fanIn: 2 * inputFeatures,
      paperBias: spec.paperBias,
    });
  }
  return blocks;
}

/** Number of values in a tensor of this shape. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, dimension) => product * dimension, 1);
}

/** Shapes of the merged network by name, in the order of the layers. */
export function mergedShapes(plan: NetworkPlan): Map<string, readonly number[]> {
  return new Map(towerParameters(plan, 0).map((block) => [block.mergedName, block.mergedShape]));
}

/** Parameters of the whole network: 60,965,224 for `alexnet` with 1000 classes. */
export function parameterCount(plan: NetworkPlan): number {
  let total = 0;
  for (const shape of mergedShapes(plan).values()) total += sizeOf(shape);
  return total;
}

/** Cuts a tower's block out of the merged tensor it belongs to; throws UsageError where that has another size. */
export function splitBlock(block: ParameterBlock, merged: Float32Array): Float32Array {
  const { name, shape, mergedShape, outputs } = block;
  if (merged.length !== sizeOf(mergedShape))
    throw new UsageError(`${name}: ${String(merged.length)} values for merged shape [${mergedShape.join(', ')}]`);
  const values = new Float32Array(sizeOf(shape));
  const allOutputs = mergedShape.at(-1) ?? 1;
  let own = 0;
  for (let row = 0; row < merged.length / allOutputs; row++) {
    if (!holdsRow(block, row)) continue;
    const start = row * allOutputs + outputs.start;
    values.set(merged.subarray(start, start + outputs.count), own);
    own += outputs.count;
  }
  return values;
}

/** Whether a block has its outputs' part of a row of its merged tensor, seen as [outer * in, out]: such rows come in the block's own order. */
export function holdsRow({ outer, inputs, mergedShape }: ParameterBlock, row: number): boolean {
  const allInputs = sizeOf(mergedShape) / (mergedShape.at(-1) ?? 1) / outer;
  const input = row % allInputs;
  return input >= inputs.start && input < inputs.start + inputs.count;
}
