// Every element of the merged network has its place in a tower, and finds it both ways.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { UsageError } from '../../src/spec/errors.ts';
import { mergedShapes, otherTower, parameterCount, sizeOf, splitBlock, towerParameters, towers } from '../../src/spec/layout.ts';
import type { ParameterBlock, TowerIndex } from '../../src/spec/layout.ts';
import { networks, planNetwork } from '../../src/spec/network.ts';
import type { NetworkPlan } from '../../src/spec/network.ts';
import { mergeBlock } from './mergeBlock.ts';

function block(plan: NetworkPlan, tower: TowerIndex, name: string): ParameterBlock {
  return towerParameters(plan, tower).find((candidate) => candidate.name === name)!;
}

/** Networks of random widths: eight layers, the crossings of the paper, 1, 4 or 9 positions before fc6. */
const plans = fc
  .record({
    inputSize: fc.constantFrom(43, 51, 67),
    halves: fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 5, maxLength: 5 }),
    hidden: fc.integer({ min: 1, max: 5 }),
    classes: fc.integer({ min: 2, max: 7 }),
  })
  .map(({ inputSize, halves, hidden, classes }) => {
    const { tiny } = networks;
    const convs = tiny.convs.map((conv, i) => ({ ...conv, kernels: 2 * halves[i]! }));
    const denses = tiny.denses.map((dense) => (dense.units === 'classes' ? dense : { ...dense, units: 2 * hidden }));
    return planNetwork({ ...tiny, inputSize, convs, denses }, classes);
  });

test('splitting the merged network and merging the pieces gives it back', () => {
  fc.assert(
    fc.property(plans, (plan) => {
      for (const [name, shape] of mergedShapes(plan)) {
        const whole = Float32Array.from({ length: sizeOf(shape) }, (_, i) => i + 1);
        const again = new Float32Array(whole.length);
        for (const tower of towers) {
          for (const piece of towerParameters(plan, tower).filter(({ mergedName }) => mergedName === name)) {
            mergeBlock(piece, splitBlock(piece, whole), again);
          }
        }
        expect(again).toEqual(whole);
      }
    }),
    { numRuns: 30 },
  );
});

test('each element belongs to one block of one tower; to both towers only where it is replicated', () => {
  fc.assert(
    fc.property(plans, (plan) => {
      for (const [name, shape] of mergedShapes(plan)) {
        const pieces = towers.flatMap((tower) => towerParameters(plan, tower).filter(({ mergedName }) => mergedName === name));
        const owners = new Float32Array(sizeOf(shape));
        for (const piece of pieces) {
          const mine = new Float32Array(owners.length);
          mergeBlock(piece, new Float32Array(sizeOf(piece.shape)).fill(1), mine);
          mine.forEach((owned, i) => (owners[i]! += owned));
        }
        const replicated = pieces.some((piece) => piece.replicated);
        expect(new Set(owners), name).toEqual(new Set([replicated ? 2 : 1]));
        expect(replicated).toBe(name === 'fc8.bias');
      }
    }),
    { numRuns: 30 },
  );
});

test.each(['alexnet', 'compact', 'tiny'] as const)(
  'the blocks of both towers of %s are as large as the network, and the bias of fc8 twice',
  (name) => {
    const plan = planNetwork(networks[name], 10);
    const held = towers.flatMap((tower) => towerParameters(plan, tower)).reduce((sum, { shape }) => sum + sizeOf(shape), 0);
    expect(held).toBe(parameterCount(plan) + 10);
  },
);

test('the merged network of alexnet has the names and shapes of one grouped network', () => {
  expect(Object.fromEntries(mergedShapes(planNetwork(networks.alexnet, 1000)))).toEqual({
    'conv1.weight': [11, 11, 3, 96],
    'conv1.bias': [96],
    'conv2.weight': [5, 5, 48, 256],
    'conv2.bias': [256],
    'conv3.weight': [3, 3, 256, 384],
    'conv3.bias': [384],
    'conv4.weight': [3, 3, 192, 384],
    'conv4.bias': [384],
    'conv5.weight': [3, 3, 192, 256],
    'conv5.bias': [256],
    'fc6.weight': [9216, 4096],
    'fc6.bias': [4096],
    'fc7.weight': [4096, 4096],
    'fc7.bias': [4096],
    'fc8.weight': [4096, 1000],
    'fc8.bias': [1000],
  });
});

describe('a tower of tiny', () => {
  const plan = planNetwork(networks.tiny, 10);

  /** Which merged row each row of the block is. */
  function rowsOf(piece: ParameterBlock): number[] {
    const [rows, columns] = piece.mergedShape as [number, number];
    const whole = Float32Array.from({ length: rows * columns }, (_, i) => Math.floor(i / columns));
    const values = splitBlock(piece, whole);
    const width = piece.shape[1]!;
    return Array.from({ length: piece.shape[0]! }, (_, row) => values[row * width]!);
  }

  test.each(towers)('%i finds its rows of fc6 at (h * W + w) * C + c, C over both towers', (tower) => {
    const { height, width, channels } = plan.convs.at(-1)!.output;
    const expected = (half: TowerIndex): number[] => {
      const rows: number[] = [];
      for (let h = 0; h < height; h++) {
        for (let w = 0; w < width; w++) {
          for (let c = 0; c < channels; c++) rows.push((h * width + w) * 2 * channels + half * channels + c);
        }
      }
      return rows;
    };
    expect(rowsOf(block(plan, tower, 'fc6.weight.own'))).toEqual(expected(tower));
    expect(rowsOf(block(plan, tower, 'fc6.weight.peer'))).toEqual(expected(otherTower(tower)));
  });

  test.each(towers)('%i owns its half of the columns of fc6, and its half of the rows of fc8', (tower) => {
    const columns = Float32Array.from({ length: 64 * 32 }, (_, i) => i % 32);
    const own = splitBlock(block(plan, tower, 'fc6.weight.own'), columns);
    expect([...own.subarray(0, 16)]).toEqual(Array.from({ length: 16 }, (_, i) => 16 * tower + i));
    expect(rowsOf(block(plan, tower, 'fc8.weight'))).toEqual(Array.from({ length: 16 }, (_, i) => 16 * tower + i));
    expect(block(plan, tower, 'fc8.weight').shape).toEqual([16, 10]);
  });

  test.each(towers)("%i reads conv3's inputs by halves: own first half for tower 0, second for tower 1", (tower) => {
    const piece = block(plan, tower, 'conv3.weight.own');
    const inputs = Float32Array.from({ length: 9 * 16 * 24 }, (_, i) => Math.floor(i / 24) % 16);
    const seen = new Set(splitBlock(piece, inputs));
    expect([...seen].sort((a, b) => a - b)).toEqual(Array.from({ length: 8 }, (_, i) => 8 * tower + i));
  });

  test('refuses values that do not fit a block', () => {
    const piece = block(plan, 0, 'conv1.bias');
    expect(() => splitBlock(piece, new Float32Array(7))).toThrow(new UsageError('conv1.bias: 7 values for merged shape [8]'));
  });
});
