// Runs of several pairs of towers: the same bytes however their workers are placed and whenever they run, the same numbers as one pair to
// rounding, and checkpoints that go on under another number of pairs.

import { describe, expect } from 'vitest';
import { test } from './stage.ts';
import type { Flags, ProcessView, Stage } from './stage.ts';

/** Batches that two replicas cannot halve, and a test split of 80 pictures, whose last batch has one. */
const flags: Flags = { steps: 12, batch: 15, 'eval-batch': 79, pixels: 'standardized', 'clip-norm': 1 };
const local: Flags = { local: 'cpu', threads: 1 };
const soonMs = 60_000;
const noFields: Flags = {
  ...{ network: undefined, data: undefined, init: undefined, batch: undefined, 'eval-every': undefined, 'run-dir': undefined },
};

/** The loss of every step, then of the evaluation. */
function losses(stage: Stage, runDir: string): number[] {
  return stage.metrics(runDir).map(({ loss }) => loss as number);
}

/**
 * The same sums in another order: a few roundings of 2^-24 = 6e-8 a step; after twelve steps the losses differ by 1e-7. A wrong divisor, other
 * masks or a lost picture change the second loss by a hundredth at least.
 */
const rounding = 1e-6;

function expectSameCourse(actual: readonly number[], expected: readonly number[]): void {
  expect(actual.length).toBe(expected.length);
  for (const [i, loss] of actual.entries()) expect(Math.abs(loss / expected[i]! - 1)).toBeLessThan(rounding);
}

describe('two replicas', () => {
  test('of four worker commands end with the bytes of two workers that hold a replica each, and with the losses of one pair', async ({
    stage,
  }) => {
    const coordinator = stage.coordinator({ ...flags, replicas: 2 });
    const address = await coordinator.address();
    const workers = [{ tower: 1, replica: 1 }, { tower: 0 }, { tower: 1 }].map((wanted) =>
      stage.worker({ coordinator: address, ...wanted }),
    );
    // The one that takes any place comes last: earlier it could take the only one that another asks for.
    await coordinator.said(/^waiting for a worker for tower 0 of replica 1$/m);
    workers.push(stage.worker({ coordinator: address }));
    expect(await coordinator.exit(soonMs), coordinator.output).toBe(0);
    for (const worker of workers) expect(await worker.exit(), worker.output).toBe(0);
    expect(await stage.trainedModel({ ...flags, replicas: 2, 'one-process': true }, 'together')).toBe(stage.modelHash());
    expect(losses(stage, 'together')).toEqual(losses(stage, 'run'));
    expect(await stage.trainedModel(flags, 'one-pair')).not.toBe(stage.modelHash());
    expectSameCourse(losses(stage, 'run'), losses(stage, 'one-pair'));
  });

  test('lose a worker of one, which is started again; the other three stay, and the run ends with the bytes of one that lost nobody', async ({
    stage,
  }) => {
    const long: Flags = { ...local, steps: 80, 'checkpoint-every': 10, 'max-restarts': 3, replicas: 2 };
    const model = await stage.trainedModel(long, 'whole');
    const coordinator = stage.coordinator(long);
    await stage.reached(15);
    const workers = (): ProcessView[] => stage.processes().filter(({ isRealWorker }) => isRealWorker);
    const before = workers();
    const lost = before.find(({ args }) => args.join(' ').includes('--tower 1 --replica 1'))!;
    process.kill(lost.pid, 'SIGKILL');
    await coordinator.said(/tower 1 of replica 1.*; going back to step \d+, restart 1 of 3/);
    await stage.reached(60);
    const stayed = workers().filter(({ pid }) => before.some((other) => other.pid === pid));
    expect(stayed.length).toBe(3);
    expect(await coordinator.exit(soonMs), coordinator.output).toBe(0);
    expect(stage.modelHash()).toBe(model);
    expect(stage.course()).toEqual(stage.course('whole'));
  });

  test('go on from a checkpoint of one pair, and one pair from theirs', async ({ stage }) => {
    await stage.trainedModel({ ...flags, ...local }, 'whole');
    const first = stage.coordinator({ ...flags, ...local, steps: 4 });
    expect(await first.exit(soonMs), first.output).toBe(0);
    for (const [i, replicas] of [2, 1].entries()) {
      const next = stage.coordinator({ resume: 'run', ...local, ...noFields, steps: 8 + 4 * i, replicas, 'one-process': true });
      expect(await next.exit(soonMs), next.output).toBe(0);
    }
    const steps = (runDir: string): number[] => stage.steps(runDir).map(({ loss }) => loss as number);
    expectSameCourse(steps('run'), steps('whole'));
  });
});

describe('replicas are refused', () => {
  test('where the last batch of an epoch would leave one without a picture', async ({ stage }) => {
    const coordinator = stage.coordinator({ replicas: 2, batch: 639, 'one-process': true, ...local });
    expect(await coordinator.exit(soonMs)).toBe(2);
    expect(coordinator.lastLine).toMatch(/--replicas 2: the last batch of an epoch has 1 of 640 pictures/);
  });

  test('to a worker that wants to be one that the run does not have', async ({ stage }) => {
    const coordinator = stage.coordinator({ ...flags, replicas: 2 });
    const worker = stage.worker({ coordinator: await coordinator.address(), replica: 2 });
    expect(await worker.exit()).toBe(4);
    expect(worker.lastLine).toContain('there is no replica 2: the run has 2, counted from 0');
    coordinator.signal('SIGTERM');
    await coordinator.exit(soonMs);
  });
});
