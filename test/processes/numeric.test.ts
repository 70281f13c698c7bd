// A loss that is not finite ends the run with exit code 7 before any tower applies it, and says what to try.

import { expect } from 'vitest';
import { endless, test } from './stage.ts';

test('a run that blows up ends with exit code 7, at the step and with the numbers in one sentence', async ({ stage }) => {
  const { coordinator, workers } = await stage.run({ lr: 1e6, steps: endless });
  expect(await coordinator.exit()).toBe(7);
  expect(await Promise.all(workers.map((worker) => worker.exit()))).toEqual([7, 7]);
  expect(coordinator.lastLine).toMatch(
    /^coordinator: step \d+, tower \d: loss \S+, squared gradient norm \S+; no tower applied the step\. Try a lower --lr/,
  );
  const [, step] = /step (\d+)/.exec(coordinator.lastLine)!;
  expect(stage.steps()).toHaveLength(Number(step) - 1);
});

test('--non-finite skip puts up with five such steps in a row, and gives up at the sixth', async ({ stage }) => {
  const coordinator = stage.coordinator({ local: 'cpu', threads: 1, lr: 1e6, 'non-finite': 'skip', steps: endless });
  expect(await coordinator.exit()).toBe(7);
  expect(coordinator.lastLine).toMatch(
    /^coordinator: step \d+, tower \d: loss .*, after 5 steps skipped for the same reason\. Try/,
  );
  const verdicts = stage.steps().map((record) => record['verdict']);
  expect(verdicts.slice(-5)).toEqual(['skip', 'skip', 'skip', 'skip', 'skip']);
  expect(verdicts.at(-6)).toBe('apply');
});
