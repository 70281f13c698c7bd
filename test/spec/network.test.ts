// The tables say what the paper says, and a table that cannot be built is refused.

import { describe, expect, test } from 'vitest';
import { UsageError } from '../../src/spec/errors.ts';
import { parseRunConfig } from '../../src/spec/config.ts';
import { mergedShapes, parameterCount } from '../../src/spec/layout.ts';
import { crossingFloats, forwardMultiplyAdds, trainingMultiplyAdds } from '../../src/spec/counts.ts';
import { networkFor, networks, planNetwork } from '../../src/spec/network.ts';
import type { ConvSpec, NetworkChoice, NetworkPlan, NetworkSpec } from '../../src/spec/network.ts';

const alexnet = planNetwork(networks.alexnet, 1000);

describe('alexnet with 1000 classes', () => {
  test('has 60,965,224 parameters', () => {
    expect(parameterCount(alexnet)).toBe(60_965_224);
  });

  test('takes 724,406,816 multiply-adds a picture forward', () => {
    expect(forwardMultiplyAdds(alexnet)).toBe(724_406_816);
  });

  test("trains at three times that, less the gradient of conv1's input", () => {
    const conv1 = 55 * 55 * 96 * 11 * 11 * 3;
    expect(trainingMultiplyAdds(alexnet)).toBe(3 * 724_406_816 - conv1);
  });

  test('sends 28,288 floats and the partial logits forward, 28,288 floats backward', () => {
    expect(crossingFloats(alexnet)).toEqual({ forward: 28_288 + 1000, backward: 28_288 });
  });

  test("has the maps of the paper's figure 2 in each tower", () => {
    const maps = alexnet.convs.map(({ spec, input, maps, output }) => [
      spec.name,
      ...[input, maps, output].map(({ height, width, channels }) => `${height}x${width}x${channels}`),
    ]);
    expect(maps).toEqual([
      ['conv1', '227x227x3', '55x55x48', '27x27x48'],
      ['conv2', '27x27x48', '27x27x128', '13x13x128'],
      ['conv3', '13x13x128', '13x13x192', '13x13x192'],
      ['conv4', '13x13x192', '13x13x192', '13x13x192'],
      ['conv5', '13x13x192', '13x13x128', '6x6x128'],
    ]);
  });

  test("has the units of the paper's figure 2 in each tower, fc6 over 6x6 positions", () => {
    const units = alexnet.denses.map(({ spec, inputFeatures, positions, units }) => [spec.name, inputFeatures, positions, units]);
    expect(units).toEqual([
      ['fc6', 4608, 36, 2048],
      ['fc7', 2048, 1, 2048],
      ['fc8', 2048, 1, 1000],
    ]);
  });

  test('crosses at conv3 alone among the convolutions, normalises after the first two, and pools after the first two and the last', () => {
    const named = (predicate: (spec: ConvSpec) => boolean): string[] =>
      networks.alexnet.convs.filter(predicate).map(({ name }) => name);
    expect(named(({ crosses }) => crosses)).toEqual(['conv3']);
    expect(named(({ responseNorm }) => responseNorm)).toEqual(['conv1', 'conv2']);
    expect(named(({ pool }) => pool)).toEqual(['conv1', 'conv2', 'conv5']);
  });

  test('starts with the biases of section 5: ones in conv2, conv4, conv5, fc6 and fc7', () => {
    const ones = [...networks.alexnet.convs, ...networks.alexnet.denses].filter(({ paperBias }) => paperBias === 1);
    expect(ones.map(({ name }) => name)).toEqual(['conv2', 'conv4', 'conv5', 'fc6', 'fc7']);
  });
});

test.each(['compact', 'tiny'] as const)("%s has alexnet's layers, crossings, norms, pools and biases", (name) => {
  const topology = ({ convs, denses }: NetworkSpec): unknown => ({
    convs: convs.map(({ name: conv, crosses, responseNorm, pool, paperBias }) => ({
      conv,
      crosses,
      responseNorm,
      pool,
      paperBias,
    })),
    denses: denses.map(({ name: dense, hidden, paperBias }) => ({ dense, hidden, paperBias })),
  });
  expect(topology(networks[name])).toEqual(topology(networks.alexnet));
});

test("tiny ends in maps of 2x2, so that the order of fc6's rows matters", () => {
  expect(planNetwork(networks.tiny, 10).denses[0]?.positions).toBe(4);
});

describe('a network of one tower', () => {
  const convs = (name: 'alexnet' | 'alexnet-one-tower'): unknown[] =>
    networks[name].convs.map(({ kernels, crosses }) => [kernels, crosses]);

  test('has half the kernels in conv1 to conv4, conv5 and the dense layers as they were, and sees all maps everywhere', () => {
    expect(convs('alexnet-one-tower')).toEqual([
      [48, false],
      [128, true],
      [192, true],
      [192, true],
      [256, true],
    ]);
    expect(networks['alexnet-one-tower'].denses).toEqual(networks.alexnet.denses);
    expect(networks['alexnet-one-tower'].lrn.scope).toBe('global');
  });

  test('is about as large as that of two towers (section 3.5): its weights are one ungrouped network', () => {
    const plan = planNetwork(networks['alexnet-one-tower'], 1000);
    const shapes = mergedShapes(plan);
    expect(shapes.get('conv2.weight')).toEqual([5, 5, 48, 128]);
    expect(shapes.get('conv5.weight')).toEqual([3, 3, 192, 256]);
    expect(Math.abs(parameterCount(plan) / parameterCount(alexnet) - 1)).toBeLessThan(0.02);
  });
});

describe("the switches of the paper's ideas", () => {
  const switched = (change: Omit<NetworkChoice, 'network'>): NetworkPlan =>
    planNetwork(networkFor({ network: 'alexnet', ...change }), 1000);

  test('leave the network alone where none is given', () => {
    expect(networkFor({ network: 'alexnet' })).toEqual(networks.alexnet);
    expect(networkFor(parseRunConfig({}, 'defaults'))).toEqual(networks.alexnet);
  });

  test('a smaller crop is zero-padded to what the network sees, and a larger one refused', () => {
    expect(switched({ cropSize: 227 }).spec).toMatchObject({ inputSize: 227, inputPadding: 0 });
    expect(switched({ cropSize: 200 }).spec).toMatchObject({ inputSize: 200, inputPadding: 27 });
    expect(() => switched({ cropSize: 228 })).toThrow('crop-size: alexnet sees 227 pixels a side, not 228');
  });

  test('disjoint pooling ends in the same sizes, and cuts off the last row and column', () => {
    expect(switched({ pool: 'disjoint' }).convs.map(({ output }) => output.height)).toEqual([27, 13, 13, 13, 6]);
  });

  test('global LRN sends two maps of 55x55 and two of 27x27 more, in both directions', () => {
    const more = 2 * (55 ** 2 + 27 ** 2);
    expect(crossingFloats(switched({ lrn: 'global' }))).toEqual({ forward: 28_288 + 1000 + more, backward: 28_288 + more });
  });

  test('k and alpha are taken over, and no LRN means none in any layer', () => {
    expect(switched({ lrnK: 1, lrnAlpha: 2e-5 }).spec.lrn).toEqual({ ...networks.alexnet.lrn, bias: 1, alpha: 2e-5 });
    expect(switched({ lrn: 'none' }).convs.some(({ spec }) => spec.responseNorm)).toBe(false);
  });
});

describe('a table that cannot be built is refused by the name of its layer', () => {
  function alexnetWith(conv: string, change: Partial<ConvSpec>): NetworkSpec {
    const { convs, ...rest } = networks.alexnet;
    return { ...rest, convs: convs.map((spec) => (spec.name === conv ? { ...spec, ...change } : spec)) };
  }

  test.each([
    { problem: 'an odd number of kernels', spec: alexnetWith('conv4', { kernels: 385 }), words: /conv4 has 385 kernels/ },
    {
      problem: 'a kernel larger than its input',
      spec: alexnetWith('conv2', { kernelSize: 32, padding: 'valid' }),
      words: /conv2: a window of 32 .* 27$/,
    },
    {
      problem: 'maps too small to pool',
      spec: alexnetWith('conv5', { kernelSize: 12, padding: 'valid' }),
      words: /conv5's pooling: a window of 3 does not fit an input of 2/,
    },
    {
      problem: 'an odd number of hidden units',
      spec: {
        ...networks.tiny,
        denses: networks.tiny.denses.map((dense) => (dense.name === 'fc7' ? { ...dense, units: 31 } : dense)),
      },
      words: /fc7 has 31 kernels or units/,
    },
    {
      problem: 'an input smaller than the first kernel',
      spec: { ...networks.tiny, inputSize: 4 },
      words: /conv1: a window of 5/,
    },
  ])('$problem', ({ spec, words }) => {
    const plan = (): unknown => planNetwork(spec, 10);
    expect(plan).toThrow(UsageError);
    expect(plan).toThrow(words);
  });

  test.each([1, 0, -3, 2.5, NaN])('%d classes', (classes) => {
    expect(() => planNetwork(networks.tiny, classes)).toThrow(`at least 2 classes, not ${classes}`);
  });
});
