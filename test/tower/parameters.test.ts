// The weights of a tower: drawn by key, loaded and saved by copy, updated in place.

import { describe, expect, onTestFinished, test } from 'vitest';
import { splitBlock, towerParameters, towers } from '../../src/spec/layout.ts';
import type { TowerIndex } from '../../src/spec/layout.ts';
import { networks, planNetwork } from '../../src/spec/network.ts';
import type { NetworkPlan } from '../../src/spec/network.ts';
import { chooseKernels, portableKernels } from '../../src/tower/kernels.ts';
import type { Kernels } from '../../src/tower/kernels.ts';
import { Parameters } from '../../src/tower/parameters.ts';
import { download, upload } from '../../src/tower/tensorflow.ts';
import { drawMerged } from './mergedWeights.ts';
import { drawNormal, inner, norm, valuesOf } from './tensors.ts';

const tiny = planNetwork(networks.tiny, 10);
const compact = planNetwork(networks.compact, 10);
const sets = ['weights', 'momentum'] as const;
const rates = { learningRate: 0.1, momentum: 0.9, weightDecay: 0.01, gradientScale: 1 };

function openParameters(plan: NetworkPlan, tower: TowerIndex, { update }: Kernels): Parameters {
  const parameters = new Parameters(towerParameters(plan, tower), update);
  onTestFinished(() => {
    parameters.close();
  });
  return parameters;
}

function blockValues(parameters: Parameters, name: string): Float32Array {
  return drawNormal(name, parameters.blocks.find((block) => block.name === name)!.shape).values;
}

/** One step with a gradient of ones on one block. */
function step(parameters: Parameters, name: string): void {
  const { shape } = parameters.blocks.find((block) => block.name === name)!;
  const gradient = upload({ shape, values: new Float32Array(blockValues(parameters, name).length).fill(1) });
  parameters.update(new Map([[name, gradient]]), () => rates);
}

describe.each([
  { kernel: 'portable', kernels: portableKernels },
  { kernel: 'chosen', kernels: chooseKernels() },
])('parameters, updated by $kernel kernels', ({ kernels }) => {
  const makeParameters = (plan = tiny, tower: TowerIndex = 0): Parameters => openParameters(plan, tower, kernels);

  test('start at zero, weights and velocities', () => {
    const parameters = makeParameters();
    for (const { name } of parameters.blocks) {
      for (const set of sets) expect(norm(parameters.save(name, set))).toBe(0);
    }
  });

  test.each(towers)('of tower %i save what was loaded, bit for bit, every block and both sets', (tower) => {
    const parameters = makeParameters(tiny, tower);
    const [weights, momentum] = [drawMerged(tiny, 'weights'), drawMerged(tiny, 'momentum')];
    for (const block of parameters.blocks) {
      parameters.load(block.name, 'weights', splitBlock(block, weights.get(block.mergedName)!));
      parameters.load(block.name, 'momentum', splitBlock(block, momentum.get(block.mergedName)!));
    }
    for (const block of parameters.blocks) {
      expect(parameters.save(block.name, 'weights')).toEqual(splitBlock(block, weights.get(block.mergedName)!));
      expect(parameters.save(block.name, 'momentum')).toEqual(splitBlock(block, momentum.get(block.mergedName)!));
      expect(download(parameters.get(block.name)).values).toEqual(splitBlock(block, weights.get(block.mergedName)!));
    }
  });

  test.each(sets)('do not write into the array that %s were loaded from', (set) => {
    const parameters = makeParameters();
    const values = blockValues(parameters, 'conv3.weight.own');
    const before = values.slice();
    parameters.load('conv3.weight.own', set, values);
    step(parameters, 'conv3.weight.own');
    expect(values).toEqual(before);
  });

  test.each(sets)('do not see what becomes of the array that %s were loaded from', (set) => {
    const parameters = makeParameters();
    const values = blockValues(parameters, 'conv3.weight.own');
    const before = values.slice();
    parameters.load('conv3.weight.own', set, values);
    values.fill(7);
    expect(parameters.save('conv3.weight.own', set)).toEqual(before);
  });

  test.each(sets)('that were saved as %s stay as they were when the next step is taken', (set) => {
    const parameters = makeParameters();
    parameters.load('fc7.weight.peer', set, blockValues(parameters, 'fc7.weight.peer'));
    const saved = parameters.save('fc7.weight.peer', set);
    const copy = saved.slice();
    step(parameters, 'fc7.weight.peer');
    expect(saved).toEqual(copy);
    expect(parameters.save('fc7.weight.peer', set)).not.toEqual(copy);
  });

  test.each([
    { event: 'an update', change: step },
    {
      event: 'a load',
      change: (parameters: Parameters, name: string) => {
        parameters.load(name, 'weights', blockValues(parameters, name));
      },
    },
    {
      event: 'an initialisation',
      change: (parameters: Parameters) => {
        parameters.initialise('he', 1, 0);
      },
    },
  ])('lend a tensor until $event: the next one holds the new values', ({ change }) => {
    const parameters = makeParameters();
    const name = 'conv1.weight';
    const lent = parameters.get(name);
    expect(parameters.get(name)).toBe(lent);
    change(parameters, name);
    const { values } = download(parameters.get(name));
    expect(norm(values)).toBeGreaterThan(0);
    expect(values).toEqual(parameters.save(name, 'weights'));
  });

  test("are copied before TensorFlow's ops write them where somebody kept a clone of what was lent", () => {
    const parameters = openParameters(tiny, 0, portableKernels);
    parameters.initialise('he', 1, 0);
    const clone = parameters.get('conv1.weight').clone();
    const before = parameters.save('conv1.weight', 'weights');
    step(parameters, 'conv1.weight');
    expect(valuesOf(clone)).toEqual(before);
    expect(parameters.save('conv1.weight', 'weights')).not.toEqual(before);
  });

  test('that have no gradient keep their values and velocities', () => {
    const parameters = makeParameters();
    parameters.initialise('he', 1, 0);
    const before = parameters.save('conv2.weight', 'weights');
    step(parameters, 'conv1.weight');
    expect(parameters.save('conv2.weight', 'weights')).toEqual(before);
    expect(norm(parameters.save('conv2.weight', 'momentum'))).toBe(0);
  });

  test('free the gradients they were given', () => {
    const parameters = makeParameters();
    const gradient = upload(drawNormal('gradient', [4]));
    const gradients = new Map([['conv1.bias', gradient]]);
    parameters.update(gradients, () => rates);
    expect(gradient.isDisposed).toBe(true);
    expect(gradients.size).toBe(0);
  });

  test('ask for the rates of each block by itself', () => {
    const parameters = makeParameters();
    const ones = { shape: [4], values: Float32Array.of(1, 1, 1, 1) };
    parameters.update(
      new Map([
        ['conv1.bias', upload(ones)],
        ['fc8.bias', upload({ shape: [10], values: new Float32Array(10).fill(1) })],
      ]),
      ({ name }) => ({ ...rates, learningRate: name === 'conv1.bias' ? 0.5 : 2 }),
    );
    expect(parameters.save('conv1.bias', 'weights')[0]).toBe(-0.5);
    expect(parameters.save('fc8.bias', 'weights')[0]).toBe(-2);
  });

  test('refuse a number of values that does not fit, and a name that is not theirs', () => {
    const parameters = makeParameters();
    expect(() => {
      parameters.load('conv1.bias', 'weights', new Float32Array(3));
    }).toThrow('conv1.bias has 4 values, not 3');
    expect(() => parameters.get('conv9.weight')).toThrow('conv9.weight');
  });
});

function drawn(init: 'paper' | 'he', seed: number, tower: TowerIndex, plan = compact): Map<string, Float32Array> {
  const parameters = openParameters(plan, tower, portableKernels);
  parameters.initialise(init, seed, tower);
  return new Map(parameters.blocks.map(({ name }) => [name, parameters.save(name, 'weights')]));
}

describe.each(['paper', 'he'] as const)('initialisation: %s', (init) => {
  test.each(towers)('gives the weights of tower %i mean zero and the right deviation, normally spread', (tower) => {
    const values = drawn(init, 1, tower);
    for (const { name, role, fanIn } of towerParameters(compact, tower)) {
      if (role === 'bias') continue;
      const weights = values.get(name)!;
      const sd = init === 'paper' ? 0.01 : Math.sqrt(2 / fanIn);
      const count = weights.length;
      const mean =
        inner(
          weights,
          weights.map(() => 1),
        ) / count;
      const deviation = norm(weights.map((weight) => weight - mean)) / Math.sqrt(count);
      const withinOne = weights.filter((weight) => Math.abs(weight) < sd).length / count;
      // Four and a half standard errors of a mean, a deviation, and a share of 0.683; the draws are fixed, so this is no gamble.
      expect(Math.abs(mean) / sd).toBeLessThan(4.5 / Math.sqrt(count));
      expect(Math.abs(deviation / sd - 1)).toBeLessThan(4.5 / Math.sqrt(2 * count));
      expect(Math.abs(withinOne - 0.6827)).toBeLessThan(4.5 * Math.sqrt((0.683 * 0.317) / count));
    }
  });

  test('counts the inputs of both towers where a layer crosses', () => {
    const fanIns = new Map(towerParameters(compact, 0).map(({ name, fanIn }) => [name, fanIn]));
    expect(fanIns.get('conv2.weight')).toBe(5 * 5 * 12);
    expect(fanIns.get('conv3.weight.own')).toBe(3 * 3 * 64);
    expect(fanIns.get('conv3.weight.peer')).toBe(3 * 3 * 64);
    expect(fanIns.get('fc8.weight')).toBe(512);
  });

  test("sets the biases: ones in conv2, conv4, conv5 and the hidden layers under the paper's, zeros elsewhere and under He", () => {
    const values = drawn(init, 1, 0);
    const ones = ['conv2', 'conv4', 'conv5', 'fc6', 'fc7'];
    for (const { name, role, layer } of towerParameters(compact, 0)) {
      if (role === 'weight') continue;
      expect(new Set(values.get(name)), name).toEqual(new Set([init === 'paper' && ones.includes(layer) ? 1 : 0]));
    }
  });

  test('depends on the seed alone', () => {
    expect(drawn(init, 5, 1, tiny)).toEqual(drawn(init, 5, 1, tiny));
  });

  test('draws other weights for another seed, tower, layer, and for the own and the peer half', () => {
    const pairs: [Float32Array, Float32Array][] = [];
    const [zero, one, otherSeed] = [drawn(init, 1, 0), drawn(init, 1, 1), drawn(init, 2, 0)];
    for (const { name, role } of towerParameters(compact, 0)) {
      if (role === 'weight') pairs.push([zero.get(name)!, one.get(name)!], [zero.get(name)!, otherSeed.get(name)!]);
    }
    for (const layer of ['conv3', 'fc6', 'fc7']) {
      pairs.push([zero.get(`${layer}.weight.own`)!, zero.get(`${layer}.weight.peer`)!]);
      pairs.push([zero.get(`${layer}.weight.own`)!, one.get(`${layer}.weight.peer`)!]);
    }
    const length = 512; // fc6 and fc7 begin alike only if they share a key.
    pairs.push([zero.get('fc6.weight.own')!.subarray(0, length), zero.get('fc7.weight.own')!.subarray(0, length)]);
    for (const [a, b] of pairs) {
      // The correlation of independent draws is within 4.5 / sqrt(n) of zero.
      expect(Math.abs(inner(a, b)) / (norm(a) * norm(b))).toBeLessThan(4.5 / Math.sqrt(a.length));
    }
  });
});
