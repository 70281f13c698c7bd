// The network as one file: the towers' blocks merged to a layout-free model.safetensors (docs/adr/0004-model-file.md).

import { readWeightsPayload } from '../protocol/payloads.ts';
import { mergeBlock, mergedShapes, sizeOf, towerParameters, towers } from '../spec/layout.ts';
import type { NetworkPlan } from '../spec/network.ts';
import { PeerLostError } from '../spec/errors.ts';
import { writeSafetensors } from './safetensors.ts';
import type { WorkerGroup } from './workerGroup.ts';

/** Collects the weights after `step` from every tower, merges and writes them; throws StorageError where the file cannot be written. */
export async function saveModel(
  path: string,
  { group, plan, step, classes }: { group: WorkerGroup; plan: NetworkPlan; step: number; classes: readonly string[] },
): Promise<void> {
  const merged = new Map(
    [...mergedShapes(plan)].map(([name, shape]) => [name, { name, shape, values: new Float32Array(sizeOf(shape)) }]),
  );
  const blocks = towers.map((tower) => new Map(towerParameters(plan, tower).map((block) => [block.name, block])));
  await group.collectWeights('weights', step, (tower, name, payload) => {
    const block = blocks[tower]?.get(name);
    const whole = block === undefined ? undefined : merged.get(block.mergedName);
    if (block === undefined || whole === undefined)
      throw new PeerLostError(`tower ${String(tower)} sent weights of ${name}, which ${plan.spec.name} has not`);
    mergeBlock(block, readWeightsPayload(payload, sizeOf(block.shape)), whole.values);
  });
  await writeSafetensors(path, [...merged.values()], {
    network: plan.spec.name,
    step: String(step),
    classes: JSON.stringify(classes),
  });
}
