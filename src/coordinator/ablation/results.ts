// What a finished run says of its variant, and what the seeds of a variant say together. Errors are shares, 0..1.
// The training error is that of the batches as they were trained on: with dropout and augmentation, before the step's update.

import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { StorageError } from '../../spec/errors.ts';

/** Not finite comes as null out of JSON. */
const number = z
  .number()
  .nullable()
  .transform((value) => value ?? NaN);

const recordSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('step'), step: z.int(), top1: number, imagesPerSecond: number }),
  z.object({ kind: z.literal('eval'), step: z.int(), top1: number, loss: number }),
]);

/** The course of a run, out of its metrics.jsonl. */
export interface RunCourse {
  /** Of step 1, 2, ... */
  readonly trainErrors: readonly number[];
  readonly imagesPerSecond: readonly number[];
  readonly evaluations: readonly { readonly step: number; readonly error: number; readonly loss: number }[];
}

/** The course of one seed of a variant. */
export interface Result {
  readonly variant: string;
  readonly seed: number;
  readonly stepsPerEpoch: number;
  readonly course: RunCourse;
}

/** Mean and sample standard deviation over seeds; no deviation of fewer than two, no mean of none. */
export interface Spread {
  readonly mean: number;
  readonly sd: number;
  readonly count: number;
}

/** A variant over its seeds. */
export interface Summary {
  readonly variant: string;
  readonly seeds: number;
  readonly testError: Spread;
  /** Of the last steps. */
  readonly trainError: Spread;
  readonly testLoss: Spread;
  /** Of the seeds that reached the target. */
  readonly stepsToTarget: Spread;
  readonly epochsToTarget: Spread;
  readonly imagesPerSecond: Spread;
  /** Test error less the first variant's with the same seed; none for the first itself. */
  readonly difference: Spread;
}

/** Steps whose mean is the training error at the end: 6,400 pictures of batch 128, a standard error of half a point at 25%. */
const lastSteps = 50;
/** Steps whose mean must be down at the target: 2,560 pictures of batch 128, a standard error of 0.9 points at 25%. */
export const targetWindow = 20;

/** Reads the metrics of a run; throws StorageError naming the line that is none. */
export function readCourse(path: string): RunCourse {
  const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1);
  return courseOf(
    lines.map((line, i) => {
      try {
        return recordSchema.parse(JSON.parse(line));
      } catch (error) {
        throw new StorageError(`${path}, line ${String(i + 1)} is no record of a run`, { cause: error });
      }
    }),
  );
}

function courseOf(records: readonly z.infer<typeof recordSchema>[]): RunCourse {
  const steps = records.filter((record) => record.kind === 'step');
  return {
    trainErrors: steps.map(({ top1 }) => 1 - top1),
    imagesPerSecond: steps.map(({ imagesPerSecond }) => imagesPerSecond),
    evaluations: records
      .filter((record) => record.kind === 'eval')
      .map(({ step, top1, loss }) => ({ step, error: 1 - top1, loss })),
  };
}

/** The last step of the first `targetWindow` steps in a row whose mean is at most `target`; nothing where there are none. */
export function stepsToTarget(trainErrors: readonly number[], target: number): number | undefined {
  for (let end = targetWindow; end <= trainErrors.length; end++) {
    if (mean(trainErrors.slice(end - targetWindow, end)) <= target) return end;
  }
  return undefined;
}

/** One summary a variant that has a finished run, in the order of `variants`; the first of these is what the others differ from. */
export function summarise(variants: readonly string[], results: readonly Result[], target: number): Summary[] {
  const [reference] = variants;
  const ofReference = results.filter(({ variant }) => variant === reference);
  return variants.flatMap((variant) => {
    const own = results.filter((result) => result.variant === variant);
    if (own.length === 0) return [];
    const reached = own.flatMap(({ course, stepsPerEpoch }) => {
      const steps = stepsToTarget(course.trainErrors, target);
      return steps === undefined ? [] : [{ steps, epochs: steps / stepsPerEpoch }];
    });
    const differences = own.flatMap((result) => {
      const other = ofReference.find(({ seed }) => seed === result.seed);
      return other === undefined || variant === reference ? [] : [testError(result) - testError(other)];
    });
    return [
      {
        variant,
        seeds: own.length,
        testError: spread(own.map(testError)),
        trainError: spread(own.map(({ course }) => mean(course.trainErrors.slice(-lastSteps)))),
        testLoss: spread(own.map(({ course }) => course.evaluations.at(-1)?.loss ?? NaN)),
        stepsToTarget: spread(reached.map(({ steps }) => steps)),
        epochsToTarget: spread(reached.map(({ epochs }) => epochs)),
        imagesPerSecond: spread(own.map(({ course }) => median(course.imagesPerSecond))),
        difference: spread(differences),
      },
    ];
  });
}

function testError({ course }: Result): number {
  return course.evaluations.at(-1)?.error ?? NaN;
}

export function spread(values: readonly number[]): Spread {
  const middle = mean(values);
  const squares = values.reduce((sum, value) => sum + (value - middle) ** 2, 0);
  return { mean: middle, sd: values.length < 2 ? NaN : Math.sqrt(squares / (values.length - 1)), count: values.length };
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? NaN;
}
