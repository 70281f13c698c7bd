// How the towers are placed and linked moves no number: 20 steps end in the same bytes, and pass through the same losses, over tcp, over ipc
// and in one process. Nor does the number of loader threads, nor a second try; another seed does.

import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { mergedShapes } from '../../src/spec/layout.ts';
import { networks, planNetwork } from '../../src/spec/network.ts';
import { makeFolder, removeFolder, runLocally, runSeparately } from './runs.ts';
import type { RunResult } from './runs.ts';

const steps = 20;
/** Crops, mirror images, dropout, two micro-batches a step; numbers large enough to move every weight. */
const recipe = [
  ['--data', 'synthetic:64,10,640', '--batch', '32', '--micro-batch', '24'],
  ['--init', 'he', '--pixels', 'standardized'],
].flat();
const flags = ['--network', 'tiny', '--steps', String(steps), ...recipe];

const folder = makeFolder();
afterAll(() => {
  removeFolder(folder);
});

let reference: RunResult;
beforeAll(async () => {
  reference = await runLocally(join(folder, 'reference'), flags);
});

describe('twenty steps of two worker processes', () => {
  test('give a loss for every step and for the evaluation, each another, and a whole model', () => {
    expect(reference.losses.length).toBe(steps + 1);
    expect(new Set(reference.losses).size).toBe(steps + 1);
    const names = [...mergedShapes(planNetwork(networks.tiny, 10)).keys()];
    expect(Object.keys(reference.tensors)).toEqual(names);
    expect(new Set(Object.values(reference.tensors)).size).toBe(names.length);
  });

  test('end in the same bytes when they are taken again', async () => {
    expect(await runLocally(join(folder, 'again'), flags)).toEqual(reference);
  });

  test('end in the same bytes as both towers in one process', async () => {
    expect(await runLocally(join(folder, 'one-process'), [...flags, '--one-process'])).toEqual(reference);
  });

  test('end in the same bytes with three commands over tcp', async () => {
    const addresses = { bind: 'tcp://127.0.0.1:0', peer: 'tcp://127.0.0.1:0' };
    expect(await runSeparately(join(folder, 'tcp'), addresses, flags)).toEqual(reference);
  });

  test('end in the same bytes with three commands over ipc', async () => {
    const addresses = { bind: `ipc://${join(folder, 'coordinator')}`, peer: `ipc://${join(folder, 'peer')}` };
    expect(await runSeparately(join(folder, 'ipc'), addresses, flags)).toEqual(reference);
  });

  test.each([
    { network: 'tiny with global LRN', change: ['--network', 'tiny', '--lrn', 'global', '--lrn-k', '1', '--lrn-alpha', '0.01'] },
    {
      network: 'the network of one tower',
      change: ['--network', 'tiny-one-tower', '--activation', 'tanh', '--pool', 'disjoint'],
    },
  ])(
    'five of $network end in the same bytes as in one process, and in others than those of tiny',
    async ({ network, change }) => {
      const changed = [...recipe, '--steps', '5', ...change];
      const apart = await runLocally(join(folder, `${network} apart`), changed);
      expect(await runLocally(join(folder, `${network} together`), [...changed, '--one-process'])).toEqual(apart);
      expect(apart.losses[0]).not.toBe(reference.losses[0]);
    },
  );

  test('end in the same bytes with three loader threads', async () => {
    expect(await runLocally(join(folder, 'loaders'), [...flags, '--loader-threads', '3'])).toEqual(reference);
  });

  test('end in other bytes, in every weight, with another seed', async () => {
    const other = await runLocally(join(folder, 'seed'), [...flags, '--seed', '2']);
    expect(Object.keys(other.tensors)).toEqual(Object.keys(reference.tensors));
    for (const [name, digest] of Object.entries(other.tensors)) expect(digest, name).not.toBe(reference.tensors[name]);
    for (const [i, loss] of other.losses.entries()) expect(loss).not.toBe(reference.losses[i]);
  });
});
