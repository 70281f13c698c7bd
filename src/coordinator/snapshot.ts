// A snapshot on its way from the towers to a file: blocks come in the order of the layers, first all weights, then all velocities, and
// leave as merged, layout-free tensors (docs/adr/0004-model-file.md).
// Invariant: one merged tensor is in memory at a time, however large the network is.

import { PeerLostError } from '../spec/errors.ts';
import { mergeBlock, mergedShapes, sizeOf, towerParameters, towers } from '../spec/layout.ts';
import type { ParameterBlock } from '../spec/layout.ts';
import type { NetworkPlan } from '../spec/network.ts';
import type { NamedTensor } from '../formats/safetensors.ts';
import type { Message, ToCoordinator } from '../protocol/messages.ts';
import { readFloatsPayload } from '../protocol/payloads.ts';

/** One block as every tower sent it. */
export type BlockOfTowers = readonly Message<Extract<ToCoordinator, { type: 'weights' }>>[];

/** The merged tensors of one set, taken off `blocks`; throws PeerLostError where a tower sends something else. */
export async function* mergedTensors(
  plan: NetworkPlan,
  of: 'weights' | 'momentum',
  blocks: AsyncIterator<BlockOfTowers>,
): AsyncGenerator<NamedTensor> {
  const layouts = towers.map((tower) => towerParameters(plan, tower));
  for (const [name, shape] of mergedShapes(plan)) {
    const values = new Float32Array(sizeOf(shape));
    for (let i = layouts[0]?.findIndex(({ mergedName }) => mergedName === name) ?? 0; ; i++) {
      const parts = layouts.map((layout) => layout[i]);
      if (parts[0]?.mergedName !== name) break;
      const next = await blocks.next();
      for (const tower of towers) merge(parts[tower], next.done === true ? undefined : next.value[tower], of, values);
    }
    yield { name, shape, values };
  }
}

function merge(
  block: ParameterBlock | undefined,
  sent: BlockOfTowers[number] | undefined,
  of: string,
  merged: Float32Array,
): void {
  if (block === undefined || sent?.header.name !== block.name || sent.header.of !== of) {
    const { name, of: set, tower } = sent?.header ?? { name: 'nothing', of: '', tower: '' };
    throw new PeerLostError(
      `tower ${String(tower)} sent ${set} of ${name} where ${of} of ${block?.name ?? 'nothing'} was expected`,
    );
  }
  mergeBlock(block, readFloatsPayload(sent.payload, sizeOf(block.shape)), merged);
}
