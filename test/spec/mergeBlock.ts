// The way back from a tower's block to the merged network, for tests: by where splitting finds each value.

import { sizeOf, splitBlock } from '../../src/spec/layout.ts';
import type { ParameterBlock } from '../../src/spec/layout.ts';

/** Writes a tower's block into the merged tensor it belongs to, of fewer than 2^24 values. */
export function mergeBlock(block: ParameterBlock, values: Float32Array, merged: Float32Array): void {
  const places = splitBlock(
    block,
    Float32Array.from({ length: sizeOf(block.mergedShape) }, (_, i) => i),
  );
  places.forEach((place, i) => (merged[place] = values[i]!));
}
