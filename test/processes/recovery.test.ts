// Runs that lose a worker, or the coordinator, and go on. The oracle: weights, velocities, metrics and order are those of the run that lost
// nobody, to the bit; who survived is the same process as before.

import { beforeAll, describe, expect } from 'vitest';
import { Stage, endless, test } from './stage.ts';
import type { Flags } from './stage.ts';

const flags: Flags = { steps: 150, 'checkpoint-every': 25, 'max-restarts': 3 };
const local: Flags = { ...flags, local: 'cpu', threads: 1 };
const soonMs = 60_000;

let model = '';
let whole: unknown[];
beforeAll(async () => {
  const stage = new Stage();
  model = await stage.trainedModel(local, 'run');
  whole = stage.course();
  stage.clear();
});

function expectWhole(stage: Stage): void {
  expect(stage.course()).toEqual(whole);
  expect(stage.modelHash()).toBe(model);
}

describe('a local worker that is killed', () => {
  test('is started again, the other one stays, and the run goes on from its last checkpoint', async ({ stage }) => {
    const coordinator = stage.coordinator(local);
    await stage.reached(30);
    const survivor = await stage.realWorker(1);
    await stage.signalRealWorker(0, 'SIGKILL');
    await coordinator.said(/tower 0 .*; going back to step \d+, restart 1 of 3/);
    await stage.reached(130);
    expect((await stage.realWorker(1)).pid).toBe(survivor.pid);
    expect(await coordinator.exit(soonMs), coordinator.output).toBe(0);
    expectWhole(stage);
  });

  test('before the first checkpoint, lets the run begin anew; a state kept in memory is nearer', async ({ stage }) => {
    const coordinator = stage.coordinator({ ...local, 'checkpoint-every': endless, 'commit-every': 10 });
    await stage.reached(5);
    await stage.signalRealWorker(1, 'SIGKILL');
    await coordinator.said(/going back to step (0|10|20)\b/);
    await stage.reached(60);
    await stage.signalRealWorker(0, 'SIGKILL');
    await coordinator.said(/going back to step ([4-9]|1\d)0, restart 1 of 3/);
    expect(await coordinator.exit(soonMs), coordinator.output).toBe(0);
    expectWhole(stage);
  });
});

describe('workers that the coordinator did not start', () => {
  test('one that is killed is waited for, and joins when somebody starts it', async ({ stage }) => {
    const { coordinator, address, workers } = await stage.run(flags);
    await stage.reached(30);
    await stage.signalRealWorker(1, 'SIGKILL');
    expect(await workers[1].exit()).toBe(3);
    await coordinator.said(/going back to step \d+/);
    const again = stage.worker({ coordinator: address });
    expect(await coordinator.exit(soonMs), coordinator.output).toBe(0);
    expect(await Promise.all([workers[0].exit(), again.exit()])).toEqual([0, 0]);
    expectWhole(stage);
  });

  test('one that stands still for longer than its deadline is given up, says so when it wakes, and has its place again', async ({
    stage,
  }) => {
    const { coordinator, workers } = await stage.run({ ...flags, 'step-timeout': 2 });
    await stage.reached(30);
    await stage.signalRealWorker(1, 'SIGSTOP');
    await coordinator.said(/tower 1 \(.+\), which does not answer.*; going back to step \d+/);
    await stage.signalRealWorker(1, 'SIGCONT');
    await workers[1].said(/gave this worker up: tower 1 \(.+\) did not answer; asking for a place again/);
    expect(await coordinator.exit(soonMs), coordinator.output).toBe(0);
    expect(await Promise.all(workers.map((worker) => worker.exit()))).toEqual([0, 0]);
    expect(coordinator.output.match(/going back/g)).toHaveLength(1);
    expectWhole(stage);
  });

  test('one that was given up and wakes when somebody else has its place is refused, and names who', async ({ stage }) => {
    const { coordinator, address, workers } = await stage.run({ ...flags, 'step-timeout': 2 });
    await stage.reached(30);
    await stage.signalRealWorker(1, 'SIGSTOP');
    const stopped = await stage.realWorker(1);
    await coordinator.said(/going back to step \d+/);
    const other = stage.worker({ coordinator: address });
    await other.said(/assigned tower 1/);
    process.kill(stopped.pid, 'SIGCONT');
    expect(await workers[1].exit()).toBe(4);
    expect(workers[1].lastLine).toMatch(/^worker: tower 1 \(.+, pid \d+\) is there already$/);
    expect(await coordinator.exit(soonMs), coordinator.output).toBe(0);
    expect(await Promise.all([workers[0].exit(), other.exit()])).toEqual([0, 0]);
    expectWhole(stage);
  });

  test('outlive a coordinator that is killed, and go on with the next one', async ({ stage }) => {
    const { coordinator, address, workers } = await stage.run(flags);
    await stage.reached(60);
    coordinator.signal('SIGKILL');
    await coordinator.exit();
    const next = stage.coordinator({ ...flags, bind: address, resume: 'auto' });
    expect(await next.exit(soonMs), next.output).toBe(0);
    expect(await Promise.all(workers.map((worker) => worker.exit()))).toEqual([0, 0]);
    expectWhole(stage);
  });
});
