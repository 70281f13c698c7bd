// What the towers start from: their own draws, or tensors of the merged network (a checkpoint's, pretrained ones), cut into each tower's blocks.
// Invariant: one tensor at a time is in memory, so that starting costs the coordinator no second copy of the network.

import { splitBlock, towerParameters } from '../spec/layout.ts';
import type { TowerIndex } from '../spec/layout.ts';
import type { NetworkPlan } from '../spec/network.ts';

/** The values of one block of one tower. */
export interface SentBlock {
  readonly name: string;
  readonly of: 'weights' | 'momentum';
  readonly values: Float32Array;
}

export interface InitialState {
  blockCount(tower: TowerIndex): number;
  blocks(tower: TowerIndex): AsyncIterable<SentBlock>;
}

/** Merged tensors by name, read when they are asked for. */
export interface TensorSource {
  readonly names: ReadonlySet<string>;
  read(name: string): Promise<Float32Array>;
}

/** Every tower draws its weights by key. */
export const drawnState: InitialState = {
  blockCount: () => 0,
  async *blocks() {
    // Nothing is sent.
  },
};

/** The blocks of `plan` whose tensors are there; what is missing is drawn, and its velocity is zero. */
export function stateFrom(plan: NetworkPlan, sources: Partial<Record<SentBlock['of'], TensorSource>>): InitialState {
  const sets = (['weights', 'momentum'] as const).flatMap((of) => {
    const source = sources[of];
    return source === undefined ? [] : [{ of, source }];
  });
  const blocksIn = (source: TensorSource, tower: TowerIndex) =>
    towerParameters(plan, tower).filter(({ mergedName }) => source.names.has(mergedName));
  return {
    blockCount: (tower) => sets.reduce((sum, { source }) => sum + blocksIn(source, tower).length, 0),
    async *blocks(tower) {
      for (const { of, source } of sets) {
        let read: { name: string; values: Float32Array } | undefined;
        for (const block of blocksIn(source, tower)) {
          // The two blocks of a crossing follow one another.
          if (read?.name !== block.mergedName) {
            read = undefined; // The one before is not needed while the next is read.
            read = { name: block.mergedName, values: await source.read(block.mergedName) };
          }
          yield { name: block.name, of, values: splitBlock(block, read.values) };
        }
      }
    },
  };
}
