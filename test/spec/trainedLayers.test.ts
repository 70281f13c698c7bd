// Which layers are trained, and what the backward pass owes to each.

import { describe, expect, test } from 'vitest';
import { UsageError } from '../../src/spec/errors.ts';
import { networks } from '../../src/spec/network.ts';
import { checkLayerNames, gradientsWanted, layerNames } from '../../src/spec/trainedLayers.ts';

const { tiny } = networks;
const all = ['conv1', 'conv2', 'conv3', 'conv4', 'conv5', 'fc6', 'fc7', 'fc8'];

/** Names of the layers of which something is wanted. */
function wanted(trainOnly?: readonly string[]): { parameters: string[]; input: string[] } {
  const layers = [...gradientsWanted(tiny, trainOnly)];
  return {
    parameters: layers.filter(([, { parameters }]) => parameters).map(([name]) => name),
    input: layers.filter(([, { input }]) => input).map(([name]) => name),
  };
}

test('layers are named from the pictures up', () => {
  expect(layerNames(tiny)).toEqual(all);
});

describe('gradients', () => {
  test('are wanted of every layer, and of every input but that of conv1, which is pictures', () => {
    expect(wanted()).toEqual({ parameters: all, input: all.slice(1) });
  });

  test('stop at the lowest trained layer, and pass through the frozen ones above it', () => {
    expect(wanted(['fc8', 'conv4'])).toEqual({ parameters: ['conv4', 'fc8'], input: ['conv5', 'fc6', 'fc7', 'fc8'] });
    expect(wanted(['fc8'])).toEqual({ parameters: ['fc8'], input: [] });
  });
});

test('a layer that the network does not have is refused with those that it has', () => {
  const check = (): void => {
    checkLayerNames(tiny, ['fc8', 'fc9'], 'skip');
  };
  expect(check).toThrow(UsageError);
  expect(check).toThrow('skip: tiny has no layer fc9; its layers are conv1, conv2, conv3, conv4, conv5, fc6, fc7, fc8');
  expect(() => gradientsWanted(tiny, ['fc6.weight'])).toThrow('train-only: tiny has no layer fc6.weight');
  expect(() => gradientsWanted(tiny, [])).toThrow('name at least one layer');
});
