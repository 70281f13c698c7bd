// The tables say what the paper says, and a table that cannot be built is refused.

import { describe, expect, test } from 'vitest';
import { UsageError } from '../../src/spec/errors.ts';
import { parameterCount } from '../../src/spec/layout.ts';
import { crossingFloats, forwardMultiplyAdds, networks, planNetwork, trainingMultiplyAdds } from '../../src/spec/network.ts';
import type { ConvSpec, NetworkSpec } from '../../src/spec/network.ts';

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
