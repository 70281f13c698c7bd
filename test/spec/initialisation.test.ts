// The initial draws of the four recipes, layer by layer.

import { expect, test } from 'vitest';
import { initialDraw } from '../../src/spec/initialisation.ts';
import { towerParameters } from '../../src/spec/layout.ts';
import { networks, planNetwork } from '../../src/spec/network.ts';

const biases = towerParameters(planNetwork(networks.alexnet, 1000), 0).filter(({ role }) => role === 'bias');
const layers = ['conv1', 'conv2', 'conv3', 'conv4', 'conv5', 'fc6', 'fc7', 'fc8'];
const papersBiases = [0, 1, 0, 1, 1, 1, 1, 0];
const fanIns = [363, 1200, 2304, 1728, 1728, 9216, 4096, 4096];

test.each([
  { init: 'paper', sds: Array<number>(8).fill(0.01), values: papersBiases },
  { init: 'he', sds: fanIns.map((fanIn) => Math.sqrt(2 / fanIn)), values: Array<number>(8).fill(0) },
  { init: 'cuda-convnet2', sds: [0.01, 0.01, 0.03, 0.03, 0.03, 0.01, 0.01, 0.01], values: papersBiases },
  { init: 'caffe', sds: [0.01, 0.01, 0.01, 0.01, 0.01, 0.005, 0.005, 0.01], values: papersBiases.map((one) => one / 10) },
] as const)('$init: deviations of the weights, and biases', ({ init, sds, values }) => {
  expect(biases.map(({ layer }) => layer)).toEqual(layers);
  expect(biases.map((block) => initialDraw(init, block).sd)).toEqual(sds);
  expect(biases.map((block) => initialDraw(init, block).bias)).toEqual(values);
});
