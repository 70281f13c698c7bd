// Which workers `--local` starts: both towers of every replica, in order, each with its device.

import { availableParallelism } from 'node:os';
import { expect, test } from 'vitest';
import { localWorkers, logName } from '../../src/coordinator/localChoice.ts';
import { UsageError } from '../../src/spec/errors.ts';

const none = { gpus: '0,1' } as const;

test('no workers without --local', () => {
  expect(localWorkers(none, 2)).toEqual([]);
});

test('the towers of a replica follow one another, and GPUs are handed out in that order; the last one serves the rest', () => {
  expect(localWorkers({ local: 'gpu', gpus: '4,5,6' }, 2)).toEqual([
    { replica: 0, tower: '0', args: ['--gpu', '4'] },
    { replica: 0, tower: '1', args: ['--gpu', '5'] },
    { replica: 1, tower: '0', args: ['--gpu', '6'] },
    { replica: 1, tower: '1', args: ['--gpu', '6'] },
  ]);
});

test('one process holds both towers of a replica', () => {
  expect(localWorkers({ local: 'gpu', gpus: '2,3', 'one-process': true }, 2)).toEqual([
    { replica: 0, tower: 'both', args: ['--gpu', '2'] },
    { replica: 1, tower: 'both', args: ['--gpu', '3'] },
  ]);
});

test('the cores are shared out, a thread at least for each; --threads is for each', () => {
  const share = String(Math.max(1, Math.floor(availableParallelism() / 2)));
  expect(localWorkers({ ...none, local: 'cpu' }, 1).map(({ args }) => args)).toEqual(
    Array.from({ length: 2 }, () => ['--cpu', '--threads', share]),
  );
  expect(localWorkers({ ...none, local: 'cpu' }, 64)[127]?.args).toEqual(['--cpu', '--threads', '1']);
  expect(localWorkers({ ...none, local: 'cpu', threads: 3 }, 2)[3]?.args).toEqual(['--cpu', '--threads', '3']);
});

test('GPUs that are no numbers are refused', () => {
  expect(() => localWorkers({ local: 'gpu', gpus: '0,x' }, 1)).toThrow(UsageError);
});

test('logs are told apart', () => {
  expect(localWorkers({ ...none, local: 'cpu' }, 1).map((choice) => logName(choice, 1))).toEqual(['0', '1']);
  expect(new Set(localWorkers({ ...none, local: 'cpu' }, 3).map((choice) => logName(choice, 3))).size).toBe(6);
});
