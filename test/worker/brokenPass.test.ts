// A pass that is broken off with both towers in one process, as when a replica is lost: what either has made is freed.

import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { PeerLostError } from '../../src/spec/errors.ts';
import type { GradientSum } from '../../src/spec/gradientSum.ts';
import { networks, planNetwork } from '../../src/spec/network.ts';
import { keyedMasks } from '../../src/tower/dropout.ts';
import { chooseKernels } from '../../src/tower/kernels.ts';
import { dispose, freeingWhatIsLeft, keep, liveTensors } from '../../src/tower/tensorflow.ts';
import { Inbox } from '../../src/worker/inbox.ts';
import { Snapshots } from '../../src/worker/snapshots.ts';
import { StepTrace } from '../../src/worker/stepTrace.ts';
import { trainingStep } from '../../src/worker/trainingStep.ts';
import type { PreparedBatch } from '../../src/worker/trainingStep.ts';
import { Bench, assign } from '../protocol/sockets.ts';
import { drawMerged } from '../tower/mergedWeights.ts';
import { drawBatch } from '../tower/tensors.ts';
import { TowerPair } from '../tower/towerPair.ts';

const bench = new Bench();
afterEach(() => {
  bench.close();
});

function sumThat(ends: () => Promise<void>): GradientSum {
  return { sum: ends, bytesSent: 0, close: () => undefined };
}

test("the tower that goes on for a moment ends before the step's tensors are freed", async () => {
  const before = liveTensors();
  const [classes, pictures] = [10, 2];
  const plan = planNetwork(networks.tiny, classes);
  const gradientSums = [
    sumThat(() => Promise.reject(new PeerLostError('the next replica is lost'))),
    sumThat(() => sleep(50)),
  ] as const;
  const pair = new TowerPair({
    ...{ plan, gradientSums, kernels: chooseKernels(), microBatch: 2 },
    dropout: { rate: 0.5, form: 'paper' },
    masks: (tower) => keyedMasks(1, tower, 0.5),
  });
  pair.loadMerged('weights', drawMerged(plan));
  const { worker } = await bench.joined(await bench.coordinator());
  const inbox = new Inbox(worker, { address: 'here', onDisconnect: () => undefined, onReconnect: () => undefined });
  const now = (): number => performance.now();
  const { images, labels } = drawBatch('batch', { pictures, size: plan.spec.inputSize, classes });
  let broken = 0;
  const context = {
    ...{ inbox, socket: worker, config: assign.config, snapshots: new Snapshots(worker), trace: new StepTrace(now) },
    seats: pair.towers.map((tower, i) => {
      return { tower, parameters: pair.parameters[i]!, bytesSent: () => 0, bytesSummed: () => 0 };
    }),
    prepare: () => images,
    breakOff: () => broken++,
  };
  const header = { step: 1, epoch: 0, index: 0, count: pictures, first: 0, of: pictures } as PreparedBatch['header'];
  const batch = { header, images: keep(images), labels: keep(labels) };
  const step = freeingWhatIsLeft(() => trainingStep(batch, context, { dataWaitMs: 0, whileWaiting: () => undefined }));
  await expect(step).rejects.toThrow('the next replica is lost');
  // Longer than the other tower needs to put its gradients on the device.
  await sleep(200);
  expect(broken).toBe(1);
  dispose(images, labels);
  pair.close();
  expect(liveTensors()).toBe(before);
});
