// From metrics to numbers: each against a value worked out by hand.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { readCourse, spread, stepsToTarget, summarise, targetWindow } from '../../../src/coordinator/ablation/results.ts';
import type { Result } from '../../../src/coordinator/ablation/results.ts';
import { csvTable, markdownTable } from '../../../src/coordinator/ablation/table.ts';
import { StorageError } from '../../../src/spec/errors.ts';

const folder = mkdtempSync(join(tmpdir(), 'crosstower-results-'));
const file = join(folder, 'metrics.jsonl');
afterAll(() => {
  rmSync(folder, { recursive: true });
});

/** A run of so many steps at each of these training errors, with one evaluation. */
function result(
  variant: string,
  seed: number,
  parts: readonly (readonly [steps: number, error: number])[],
  testError: number,
): Result {
  const trainErrors = parts.flatMap(([steps, error]) => Array.from({ length: steps }, () => error));
  return {
    variant,
    seed,
    stepsPerEpoch: 50,
    course: {
      trainErrors,
      imagesPerSecond: trainErrors.map((_, i) => 100 + i),
      evaluations: [{ step: trainErrors.length, error: testError, loss: 2 * testError }],
    },
  };
}

describe('the metrics of a run', () => {
  test('give errors by step and evaluation; what else they say is passed over', () => {
    writeFileSync(
      file,
      '{"kind":"step","step":1,"epoch":1,"loss":null,"top1":0.25,"imagesPerSecond":10,"verdict":"skip"}\n' +
        '{"kind":"eval","step":1,"epoch":1,"loss":1.5,"top1":0.5,"top5":1}\n' +
        '{"kind":"step","step":2,"epoch":2,"loss":1,"top1":0.75,"imagesPerSecond":20}\n' +
        '{"kind":"eval","step":2,"epoch":2,"loss":null,"top1":0.125,"top5":1}\n',
    );
    expect(readCourse(file)).toEqual({
      trainErrors: [0.75, 0.25],
      imagesPerSecond: [10, 20],
      evaluations: [
        { step: 1, error: 0.5, loss: 1.5 },
        { step: 2, error: 0.875, loss: NaN },
      ],
    });
  });

  test('with a line that is no record name it', () => {
    writeFileSync(file, '{"kind":"step","step":1,"top1":0.25,"imagesPerSecond":10}\n{"kind":"step"}\n');
    expect(() => readCourse(file)).toThrow(StorageError);
    expect(() => readCourse(file)).toThrow(/metrics\.jsonl, line 2 /);
  });
});

describe('steps to a training error', () => {
  test('are those to the end of the first window whose mean is there', () => {
    // Half the window at 1 and half at 0 has the mean 0.5.
    const errors = [...Array<number>(40).fill(1), ...Array<number>(40).fill(0)];
    expect(stepsToTarget(errors, 0.5)).toBe(40 + targetWindow / 2);
    expect(stepsToTarget(errors, 0)).toBe(40 + targetWindow);
    expect(stepsToTarget(errors, 1)).toBe(targetWindow);
  });

  test('are none where it is not reached, nor where the run is shorter than the window', () => {
    expect(stepsToTarget(Array<number>(100).fill(0.3), 0.25)).toBeUndefined();
    expect(stepsToTarget(Array<number>(targetWindow - 1).fill(0), 0.25)).toBeUndefined();
  });

  test('do not count one good batch', () => {
    const errors = Array<number>(60).fill(0.5);
    errors[30] = 0;
    expect(stepsToTarget(errors, 0.25)).toBeUndefined();
  });
});

test('mean and sample deviation; none of one, no mean of none', () => {
  // Squares of the distances 1, 0, 1 over n - 1 = 2.
  expect(spread([1, 2, 3])).toEqual({ mean: 2, sd: 1, count: 3 });
  expect(spread([5])).toEqual({ mean: 5, sd: NaN, count: 1 });
  expect(spread([])).toEqual({ mean: NaN, sd: NaN, count: 0 });
});

const results = [
  result(
    'all',
    1,
    [
      [50, 1],
      [50, 0.25],
    ],
    0.2,
  ),
  result(
    'all',
    2,
    [
      [50, 1],
      [50, 0.5],
    ],
    0.3,
  ),
  result(
    'a|b, "c"',
    1,
    [
      [50, 1],
      [50, 0.75],
    ],
    0.25,
  ),
  result(
    'a|b, "c"',
    2,
    [
      [50, 1],
      [50, 0.75],
    ],
    0.45,
  ),
];
const variants = ['all', 'not run', 'a|b, "c"'];

describe('the summaries', () => {
  const [all, other, ...rest] = summarise(variants, results, 0.25);

  test('are one for each variant that ran', () => {
    expect([all?.variant, other?.variant, rest]).toEqual(['all', 'a|b, "c"', []]);
  });

  test('hold means over seeds of the last evaluation, the last 50 steps and the median speed', () => {
    expect(all?.seeds).toBe(2);
    expect(all?.testError.mean).toBeCloseTo(0.25, 12);
    expect(all?.testLoss.mean).toBeCloseTo(0.5, 12);
    expect(all?.trainError).toEqual({ mean: 0.375, sd: Math.SQRT2 / 8, count: 2 });
    expect(all?.imagesPerSecond.mean).toBe(150);
  });

  test('count the steps of the seeds that reached the target alone', () => {
    expect(all?.stepsToTarget).toEqual({ mean: 70, sd: NaN, count: 1 });
    expect(all?.epochsToTarget.mean).toBe(1.4);
    expect(other?.stepsToTarget.count).toBe(0);
  });

  test('differ from the first variant seed by seed', () => {
    // 0.05 and 0.15.
    expect(other?.difference.mean).toBeCloseTo(0.1, 12);
    expect(other?.difference.sd).toBeCloseTo(0.1 / Math.SQRT2, 12);
    expect(all?.difference.count).toBe(0);
    const [alone] = summarise(variants, results.slice(1, 3), 0.25).slice(1);
    expect(alone?.difference.count).toBe(0);
  });
});

describe('the table', () => {
  const summaries = summarise(variants, results, 0.25);

  test('in Markdown has a line a variant, in percent and points', () => {
    const lines = markdownTable(summaries, 0.25).trimEnd().split('\n');
    expect(lines[0]).toContain('| steps to 25% |');
    expect(lines[2]).toBe(
      '| all | 2 | 25.00 ± 7.07 | - | 37.50 ± 17.68 | 0.500 ± 0.141 | 70 (1 of 2) | 1.40 (1 of 2) | 150 ± 0 |',
    );
    expect(lines[3]).toMatch(/^\| a\\\|b, "c" \| 2 \| 35\.00 ± 14\.14 \| \+10\.00 ± 7\.07 \| .*\| not reached \| not reached \|/);
    expect(lines).toHaveLength(4);
  });

  test('in CSV has the same in shares, quoted where it must be, and as many cells in every line', () => {
    const [head, all, other] = csvTable(summaries).trimEnd().split('\n');
    expect(head).toMatch(/^variant,seeds,reached_target,test_error_mean,test_error_sd,difference_mean,/);
    expect(all).toMatch(/^all,2,1,0\.25,/);
    expect(other).toMatch(/^"a\|b, ""c""",2,0,0\.35,/);
    expect(all?.split(',')).toHaveLength(head?.split(',').length ?? 0);
  });

  test('of nothing is a head alone', () => {
    expect(markdownTable([], 0.25).trimEnd().split('\n')).toHaveLength(2);
    expect(csvTable([]).trimEnd().split('\n')).toHaveLength(1);
  });
});
