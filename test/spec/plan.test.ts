// The costs of the full network are the known ones, and the model of a step follows its own rules.

import { expect, test } from 'vitest';
import { networkFor, networks, planNetwork } from '../../src/spec/network.ts';
import { layerCosts, predictStep, ringBytes, stepCost } from '../../src/spec/plan.ts';

const alexnet = planNetwork(networks.alexnet, 1000);
const machine = { deviceFlops: 8e12, efficiency: 0.5, linkSpeed: 1e10, replicas: 1 };

test('alexnet with 1000 classes has its known parameters, work and traffic', () => {
  const step = stepCost(alexnet, 128);
  expect(step.parameters).toBe(60_965_224);
  expect(step.forwardBytes).toBe((28_288 + 1000) * 128 * 4);
  expect(step.backwardBytes).toBe(28_288 * 128 * 4);
  const layers = layerCosts(alexnet);
  // Two towers, two operations a multiply-add: 724 M of them.
  expect(Math.round(layers.reduce((sum, { forwardFlops }) => sum + forwardFlops, 0) / 1e6)).toBe(724);
  // What crosses by layer is what crosses in all; work in training is that of both towers.
  const sum = (of: 'crossingBytes' | 'trainingFlops' | 'keptBytes'): number =>
    layers.reduce((total, layer) => total + layer[of], 0);
  expect(128 * sum('crossingBytes')).toBe(step.forwardBytes + step.backwardBytes);
  expect(2 * 128 * sum('trainingFlops')).toBe(step.trainingFlops);
  // Three copies of a tower's parameters, and the maps of 128 pictures.
  expect(step.memoryBytes).toBe(12 * layers.reduce((total, { parameters }) => total + parameters, 0) + 128 * sum('keptBytes'));
  expect(layers[0]!.keptBytes).toBe(4 * (227 * 227 * 3 + 2 * 55 * 55 * 48));
  // fc8's bias of 1000 lies in both.
  expect(2 * layers.reduce((sum, { parameters }) => sum + parameters, 0) - 1000).toBe(60_965_224);
});

test('replicas divide work and crossings, and pay for the all-reduce', () => {
  const [one, four] = [1, 4].map((replicas) => predictStep(alexnet, 128, { ...machine, replicas }));
  expect(one!.sync).toBe(0);
  expect(four!.compute).toBeCloseTo(one!.compute / 4, 12);
  expect(four!.crossings).toBeCloseTo(one!.crossings / 4, 12);
  // 2 (4 - 1) / 4 of half the parameters, 4 bytes each, over 1e10 bytes/s.
  expect(four!.sync).toBeCloseTo((1.5 * 30_482_612 * 4) / 1e10, 12);
  expect(one!.hidden).toBeLessThanOrEqual(one!.notHidden);
  expect(ringBytes(alexnet, 4)).toBe(1.5 * 30_482_612 * 4);
});

test('a norm over both towers sends its border maps as well', () => {
  const [own, global] = (['tower', 'global'] as const).map((lrn) => planNetwork(networkFor({ network: 'alexnet', lrn }), 1000));
  // Two maps of 55x55 and two of 27x27.
  const borders = 2 * (55 * 55 + 27 * 27);
  expect(stepCost(global!, 1).forwardBytes - stepCost(own!, 1).forwardBytes).toBe(4 * borders);
  expect(stepCost(global!, 1).backwardBytes - stepCost(own!, 1).backwardBytes).toBe(4 * borders);
});
