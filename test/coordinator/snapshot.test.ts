// A snapshot becomes the merged tensors, however its blocks are cut into frames; what is not the expected block ends it.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PeerLostError } from '../../src/spec/errors.ts';
import { mergedShapes, sizeOf, splitBlock, towerParameters, towers } from '../../src/spec/layout.ts';
import { networks, planNetwork } from '../../src/spec/network.ts';
import { protocolVersion } from '../../src/protocol/messages.ts';
import { mergedPieces } from '../../src/coordinator/snapshot.ts';
import type { BlockOfTowers } from '../../src/coordinator/snapshot.ts';
import { bytesOf } from '../../src/formats/wholeFile.ts';

const plan = planNetwork(networks.compact, 1000);
const shapes = mergedShapes(plan);
const merged = new Map(
  [...shapes].map(([name, shape], tensor) => [name, Float32Array.from({ length: sizeOf(shape) }, (_, i) => tensor + i / 8)]),
);

/** What the towers send of `merged`, in frames of these sizes in turn, which begin at any address. */
async function* sent(
  sizes: readonly number[],
  alter = (block: BlockOfTowers): BlockOfTowers => block,
): AsyncGenerator<BlockOfTowers> {
  const layouts = towers.map((tower) => towerParameters(plan, tower));
  const total = layouts[0]!.length;
  for (let index = 0; index < total; index++) {
    await Promise.resolve();
    yield alter(
      towers.map((tower) => {
        const block = layouts[tower]![index]!;
        const { name } = block;
        const payload = framesOf(bytesOf(splitBlock(block, merged.get(block.mergedName)!)), sizes);
        const envelope = { version: protocolVersion, run: 'r', generation: 1, step: 1 } as const;
        return { header: { ...envelope, type: 'weights', tower, of: 'weights', name, index, total }, payload };
      }),
    );
  }
}

function framesOf(bytes: Uint8Array, sizes: readonly number[]): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (let start = 0, i = 0; start < bytes.length; i++) {
    const part = bytes.subarray(start, start + sizes[i % sizes.length]!);
    const odd = new Uint8Array(part.length + 1);
    odd.set(part, 1);
    frames.push(odd.subarray(1));
    start += part.length;
  }
  return frames;
}

test('the pieces are the merged tensors, in the order of the layers, whatever frames the blocks came in', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1000, max: 1 << 20 }), { minLength: 1, maxLength: 3 }), async (sizes) => {
      const found = new Map<string, Float32Array>([...shapes].map(([name, shape]) => [name, new Float32Array(sizeOf(shape))]));
      const done: Record<string, number> = {};
      for await (const { name, values } of mergedPieces(plan, 'weights', sent(sizes))) {
        // Copied at once: the next piece comes in the same memory.
        found.get(name)!.set(values, done[name] ?? 0);
        done[name] = (done[name] ?? 0) + values.length;
      }
      expect(Object.keys(done)).toEqual([...shapes.keys()]);
      for (const [name, values] of found) {
        expect(done[name]).toBe(values.length);
        expect(Buffer.from(values.buffer).equals(Buffer.from(merged.get(name)!.buffer)), name).toBe(true);
      }
    }),
    { numRuns: 4 },
  );
});

test('some tensors take several pieces', async () => {
  const pieces: string[] = [];
  for await (const { name } of mergedPieces(plan, 'weights', sent([1 << 20]))) pieces.push(name);
  expect(pieces.length).toBeGreaterThan(shapes.size);
});

test.each([
  [
    'another block',
    (header: object) => ({ ...header, name: 'conv9.weight' }),
    /sent weights of conv9.weight where weights of conv1.weight/,
  ],
  [
    'another set',
    (header: object) => ({ ...header, of: 'momentum' }),
    /sent momentum of conv1.weight where weights of conv1.weight/,
  ],
])('%s than the expected one ends it', async (_, change, message) => {
  const blocks = sent([1 << 20], (ofTowers) =>
    ofTowers.map(({ header, payload }) => ({ header: change(header) as typeof header, payload })),
  );
  const error: unknown = await mergedPieces(plan, 'weights', blocks)
    .next()
    .catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(PeerLostError);
  expect((error as Error).message).toMatch(message);
});

test('a block that is too short, and one that does not come, end it', async () => {
  const short = sent([1 << 20], (block) => block.map(({ header, payload }) => ({ header, payload: payload.slice(1) })));
  await expect(mergedPieces(plan, 'weights', short).next()).rejects.toThrow(/tower 0 sent 0 bytes for conv1.weight of shape \[/);
  async function* nothing(): AsyncGenerator<BlockOfTowers> {
    // The towers are gone.
  }
  await expect(mergedPieces(plan, 'weights', nothing()).next()).rejects.toThrow(
    /sent .* of nothing where weights of conv1.weight/,
  );
});
