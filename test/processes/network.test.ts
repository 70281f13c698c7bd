// Networks that fail, by a proxy in the link between a worker and the coordinator, or between the towers. The oracle is that of recovery.test.ts.

import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, onTestFinished } from 'vitest';
import { FaultProxy } from './faultProxy.ts';
import { Stage, freeAddress, test } from './stage.ts';
import type { Command, Flags } from './stage.ts';

const flags: Flags = { steps: 40, 'checkpoint-every': 10, 'max-restarts': 3, 'step-timeout': 3 };
const soonMs = 40_000;

let model = '';
let whole: unknown[];
let tensors = 0;
beforeAll(async () => {
  const stage = new Stage();
  model = await stage.trainedModel({ ...flags, local: 'cpu', threads: 1 }, 'run');
  whole = stage.course();
  tensors = mostTensors(stage);
  stage.clear();
});

/** The most that were alive in a worker after a step: what a step that was broken off left behind would be there for good. */
function mostTensors(stage: Stage): number {
  return Math.max(...stage.steps().flatMap(({ liveTensors }) => liveTensors as number[]));
}

interface ProxiedRun {
  readonly coordinator: Command;
  readonly workers: readonly [Command, Command];
  /** Between the coordinator and tower 1. */
  readonly control: FaultProxy;
  /** Between the towers. */
  readonly peer: FaultProxy;
}

async function proxiedRun(stage: Stage, more: Flags = {}): Promise<ProxiedRun> {
  const peerAddress = await freeAddress();
  const [control, peer] = await Promise.all([FaultProxy.listen(), FaultProxy.listen(peerAddress)]);
  onTestFinished(async () => {
    await Promise.all([control.close(), peer.close()]);
  });
  const coordinator = stage.coordinator({ ...flags, ...more });
  const address = await coordinator.address();
  control.target = address;
  const workers = [
    stage.worker({ coordinator: address, tower: 0, 'peer-address': peerAddress }),
    stage.worker({ coordinator: control.address, tower: 1, 'peer-address': peer.address }),
  ] as const;
  return { coordinator, workers, control, peer };
}

/** The run ends as if nothing had been, with the processes that it began with, after `mostReturns` to a commit. */
async function expectWhole(stage: Stage, { coordinator, workers }: ProxiedRun, mostReturns = 1): Promise<void> {
  expect(await coordinator.exit(soonMs), coordinator.output).toBe(0);
  expect(await Promise.all(workers.map((worker) => worker.exit()))).toEqual([0, 0]);
  expect(stage.course()).toEqual(whole);
  expect(stage.modelHash()).toBe(model);
  expect(mostTensors(stage)).toBeLessThanOrEqual(tensors);
  expect(coordinator.output.match(/going back/g)?.length ?? 0, coordinator.output).toBeLessThanOrEqual(mostReturns);
}

describe('the link between the towers', () => {
  test('reset in the middle of a tensor, is made anew', async ({ stage }) => {
    const run = await proxiedRun(stage);
    await stage.reached(5);
    run.peer.afterBytes(100_000, 'cut');
    await run.coordinator.said(/tower [01] \(.+\): tower [01] (broke the connection|cannot be reached).*; going back to step/);
    expect(run.peer.struck).toBe(1);
    await expectWhole(stage, run);
  });

  test('with one bit flipped on the way, is given up, and the step with it', async ({ stage }) => {
    const run = await proxiedRun(stage);
    await stage.reached(5);
    run.peer.afterBytes(100_000, 'flip');
    await run.coordinator.said(/; going back to step/);
    expect(run.peer.struck).toBe(1);
    await expectWhole(stage, run);
  });

  test('away for a moment, costs nothing but the moment; for longer than --step-timeout, a step that both give up', async ({
    stage,
  }) => {
    const run = await proxiedRun(stage);
    await stage.reached(3);
    run.peer.blackhole();
    await sleep(1000);
    run.peer.heal();
    await stage.reached(12);
    expect(run.coordinator.output).not.toContain('going back');
    run.peer.blackhole();
    await run.coordinator.said(/; going back to step/);
    run.peer.heal();
    // The next generation begins with the cable still out.
    await expectWhole(stage, run, 2);
  });
});

describe('the link between coordinator and worker', () => {
  test('away for longer than --step-timeout, stops both towers before the next step, and is made anew', async ({ stage }) => {
    const run = await proxiedRun(stage);
    await stage.reached(5);
    run.control.blackhole();
    await sleep(300);
    const reached = stage.steps().length;
    await run.coordinator.said(/step \d+: no '\w+' from tower 1 \(.+\), which does not answer.*; going back to step/);
    // What was under way may have been finished, no more.
    expect(stage.steps().length).toBeLessThanOrEqual(reached + 1);
    run.control.reset();
    run.control.heal();
    await expectWhole(stage, run);
  });

  test('reset, is made anew', async ({ stage }) => {
    const run = await proxiedRun(stage);
    await stage.reached(5);
    run.control.reset();
    await run.coordinator.said(/tower 1 \(.+\) is lost.*; going back to step/);
    await expectWhole(stage, run);
  });

  test('with one bit flipped on the way, is given up and made anew', async ({ stage }) => {
    const run = await proxiedRun(stage);
    await stage.reached(5);
    run.control.afterBytes(20_000, 'flip');
    await run.coordinator.said(/going back to step/);
    expect(run.control.struck).toBe(1);
    await expectWhole(stage, run);
  });
});

test('links of 8 Mbit/s and 10 ms each way are slow, and no fault', async ({ stage }) => {
  const run = await proxiedRun(stage, { 'step-timeout': 5 });
  for (const proxy of [run.control, run.peer]) {
    proxy.latencyMs = 10;
    proxy.bytesPerMs = 1000;
  }
  await expectWhole(stage, run);
  expect(run.coordinator.output).not.toContain('going back');
});

test('a link of 100 ms each way: the last state takes longer than --step-timeout, and the coordinator leaves after its workers', async ({
  stage,
}) => {
  const run = await proxiedRun(stage, { steps: 3 });
  await stage.reached(1);
  run.control.latencyMs = 100;
  expect(await run.coordinator.exit(soonMs), run.coordinator.output).toBe(0);
  expect(run.workers.map(({ lastLine }) => lastLine)).toEqual(['worker: the run is done', 'worker: the run is done']);
  expect(await Promise.all(run.workers.map((worker) => worker.exit()))).toEqual([0, 0]);
  expect(run.coordinator.output).not.toContain('going back');
});

test('a host whose name does not resolve is named by both commands, at once', async ({ stage }) => {
  const nowhere = 'tcp://no-such-host.invalid:5570';
  const commands = [stage.coordinator({ bind: nowhere, insecure: true }), stage.worker({ coordinator: nowhere, insecure: true })];
  for (const command of commands) {
    expect(await command.exit()).toBe(2);
    expect(command.lastLine).toMatch(/tcp:\/\/no-such-host\.invalid:5570: the host name no-such-host\.invalid does not resolve/);
  }
});
