// A stop signal, to whichever process it goes: the step is finished, the model saved, and every command exits with 75. The model is that
// of a run of as many steps, bit for bit. A second signal ends a command at once.

import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect } from 'vitest';
import { hollowWorker } from './hollowWorker.ts';
import { endless, freeAddress, test, until } from './stage.ts';
import type { Flags, Stage } from './stage.ts';

const soonMs = 5000;

/** The run has stopped after a whole step, and its model is that of a run which was planned to end there. */
async function expectStoppedInGoodOrder(stage: Stage, flags: Flags = {}): Promise<void> {
  const steps = stage.steps();
  expect(steps.map((record) => record['step'])).toEqual(steps.map((_, i) => i + 1));
  expect(stage.modelHash()).toBe(await stage.trainedModel({ ...flags, steps: steps.length }));
}

describe('the first signal', () => {
  test('SIGINT to the coordinator ends the run after the step', async ({ stage }) => {
    const { coordinator, workers } = await stage.run({ steps: endless });
    await stage.reached(5);
    coordinator.signal('SIGINT');
    expect(await coordinator.exit(soonMs)).toBe(75);
    expect(await Promise.all(workers.map((worker) => worker.exit(soonMs)))).toEqual([75, 75]);
    expect(coordinator.output.match(/SIGINT: finishing the step/g)).toHaveLength(1);
    for (const { lastLine } of workers) expect(lastLine).toBe('worker: the run was stopped');
    await expectStoppedInGoodOrder(stage);
  });

  test('SIGTERM to the command of one worker ends the run after the step', async ({ stage }) => {
    const { coordinator, workers } = await stage.run({ steps: endless });
    await stage.reached(5);
    workers[1].signal('SIGTERM');
    expect(await coordinator.exit(soonMs)).toBe(75);
    expect(await Promise.all(workers.map((worker) => worker.exit(soonMs)))).toEqual([75, 75]);
    await expectStoppedInGoodOrder(stage);
  });

  test('SIGINT in the middle of an evaluation ends it, with the model of the step before', async ({ stage }) => {
    const data = 'synthetic:64,10,32000';
    // One step, then 4000 test pictures: the signal comes while they are scored.
    const coordinator = stage.coordinator({
      local: 'cpu',
      threads: 1,
      data,
      steps: 1,
      'eval-batch': 100,
    });
    await stage.reached(1);
    await sleep(300);
    coordinator.signal('SIGINT');
    // All steps were done.
    expect(await coordinator.exit(soonMs)).toBe(0);
    expect(stage.metrics().map((record) => record['kind'])).toEqual(['step']);
    await expectStoppedInGoodOrder(stage, { data });
  });

  test('Ctrl-C to all three commands at once stops the run once', async ({ stage }) => {
    const address = await freeAddress();
    // The shell ignores the signal and says how its three jobs ended.
    const commands = [
      stage.commandLine('coordinator', { bind: address, steps: endless }),
      stage.commandLine('worker', { coordinator: address, tower: 0 }),
      stage.commandLine('worker', { coordinator: address, tower: 1 }),
    ];
    const jobs = commands.map((line) => `{ ${line}; echo "exit code $?"; } &`);
    const shell = stage.start('bash', ['-c', `trap '' INT; ${jobs.join(' ')} wait`], { ownGroup: true });
    await stage.reached(5);
    shell.signalGroup('SIGINT');
    await shell.exit(2 * soonMs);
    expect(shell.output.match(/exit code \d+/g)).toEqual(['exit code 75', 'exit code 75', 'exit code 75']);
    expect(shell.output.match(/^SIGINT: finishing the step/gm)).toHaveLength(1);
    await expectStoppedInGoodOrder(stage);
  });

  test('saves the step that is decided on next, where both towers have begun it already', async ({ stage }) => {
    const lastStep = 3;
    const coordinator = stage.coordinator({ steps: endless, 'step-timeout': 5 });
    const address = await coordinator.address();
    let letGo = (): void => undefined;
    const both = new Promise<void>((resolve) => (letGo = resolve));
    let waiting = 0;
    const onDecision = async (step: number): Promise<void> => {
      if (step !== lastStep) return;
      waiting++;
      await both;
    };
    const workers = Promise.all(([0, 1] as const).map((tower) => hollowWorker({ address, tower, classes: 10, onDecision })));
    await until('the decision on the last step', () => waiting === 2, 10_000);
    coordinator.signal('SIGINT');
    await coordinator.said(/SIGINT: finishing the step/);
    // While it sleeps, the ends of the step and the gradients of the next one pile up: it hears them in one go.
    coordinator.signal('SIGSTOP');
    letGo();
    await sleep(200);
    coordinator.signal('SIGCONT');
    expect(await coordinator.exit(3000)).toBe(75);
    expect(await workers).toEqual([75, 75]);
    expect(stage.steps()).toHaveLength(lastStep + 1);
  });

  test('ends commands that still wait for the others with 75 as well, and nothing is saved', async ({ stage }) => {
    const coordinator = stage.coordinator();
    const worker = stage.worker({ coordinator: await coordinator.address(), tower: 0 });
    const lonely = stage.worker({ coordinator: await freeAddress() });
    await coordinator.said(/waiting for a worker for tower 1/);
    coordinator.signal('SIGTERM');
    lonely.signal('SIGTERM');
    expect(await coordinator.exit(soonMs)).toBe(75);
    expect(coordinator.lastLine).toBe('coordinator: stopped before training began: nothing was saved');
    expect(await worker.exit(soonMs)).toBe(75);
    expect(await lonely.exit(soonMs)).toBe(75);
  });

  test('ends a coordinator whose workers are still starting, and none of them stays', async ({ stage }) => {
    const coordinator = stage.coordinator({ local: 'cpu', threads: 1, steps: endless });
    await coordinator.address();
    coordinator.signal('SIGINT');
    expect(await coordinator.exit(soonMs)).toBe(75);
    await stage.expectEmpty();
  });
});

describe('the second signal', () => {
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    test(`${signal} ends the coordinator at once with exit code ${code}, and its workers with it`, async ({ stage }) => {
      const { coordinator, workers } = await stage.run({ steps: endless });
      await stage.reached(3);
      // A step that cannot be finished: the first signal has no end.
      await stage.signalRealWorker(1, 'SIGSTOP');
      coordinator.signal(signal);
      await coordinator.said(/once more stops at once/);
      await sleep(300);
      expect(coordinator.isRunning).toBe(true);
      coordinator.signal(signal);
      expect(await coordinator.exit(1000)).toBe(code);
      // They wait for another coordinator until somebody stops them, too.
      await workers[0].said(/the connection to the coordinator at \S+ broke/);
      for (const worker of workers) worker.signal('SIGTERM');
      expect(await workers[0].exit(soonMs)).toBe(75);
      expect(workers[1].isRunning).toBe(true);
      await stage.signalRealWorker(1, 'SIGCONT');
      expect(await workers[1].exit(soonMs)).toBe(75);
    });
  }

  test('ends a worker at once, and the process that computes with it', async ({ stage }) => {
    const { coordinator, workers } = await stage.run({ steps: endless });
    await stage.reached(3);
    await stage.signalRealWorker(0, 'SIGSTOP');
    workers[0].signal('SIGINT');
    await workers[0].said(/once more stops at once/);
    await sleep(300);
    workers[0].signal('SIGINT');
    expect(await workers[0].exit(1000)).toBe(130);
    expect(await coordinator.exit(soonMs)).toBe(3);
    expect(coordinator.lastLine).toMatch(/^coordinator: tower 0 .* is lost, last heard '\w+' of step \d+/);
    expect(await workers[1].exit(soonMs)).toBe(3);
  });
});
