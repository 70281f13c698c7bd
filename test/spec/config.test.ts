// A run's config: the paper's values where nothing is said, and an error that names the field where something is wrong.

import { describe, expect, test } from 'vitest';
import { parseRunConfig, runConfigSchema } from '../../src/spec/config.ts';
import { UsageError } from '../../src/spec/errors.ts';

function problemOf(input: unknown): string {
  try {
    parseRunConfig(input, 'run.yaml');
  } catch (error) {
    expect(error).toBeInstanceOf(UsageError);
    return (error as UsageError).message;
  }
  throw new Error('nothing was refused');
}

describe('a run config', () => {
  test("is the paper's where nothing is said", () => {
    expect(parseRunConfig({}, 'flags')).toMatchObject({
      network: 'alexnet',
      batch: 128,
      epochs: 90,
      lr: 0.01,
      momentum: 0.9,
      weightDecay: 0.0005,
      dropout: 0.5,
      dropoutForm: 'paper',
      init: 'paper',
      augment: 'crop-flip',
      pixels: 'centred',
      biasLr: 1,
      biasDecay: 1,
    });
  });

  test('needs a picture for every replica', () => {
    expect(parseRunConfig({ batch: 3, replicas: 3 }, 'flags')).toMatchObject({ batch: 3, replicas: 3 });
    expect(problemOf({ batch: 2, replicas: 3 })).toContain('batch 2 is too small for 3 replicas');
  });

  test('keeps what is said, and parses to itself', () => {
    const config = parseRunConfig(
      { network: 'tiny', seed: 9, lrScheduler: 'step', lrSteps: [1, 2.5], mean: [1, 2, 3], steps: 4 },
      'flags',
    );
    expect(config).toMatchObject({ network: 'tiny', seed: 9, lrSteps: [1, 2.5], mean: [1, 2, 3], steps: 4 });
    expect(parseRunConfig(config, 'again')).toEqual(config);
  });

  test.each([
    ['network', 'resnet'],
    ['data', ''],
    ['limitTrain', 0],
    ['seed', -1],
    ['seed', 1.5],
    ['epochs', 0],
    ['steps', 2.5],
    ['batch', 'many'],
    ['shuffle', 'yes'],
    ['augment', true],
    ['pixels', 'raw'],
    ['mean', [1, 2]],
    ['init', 'xavier'],
    ['lr', 0],
    ['lr', Number.NaN],
    ['lrSteps', [0]],
    ['lrGamma', -1],
    ['momentum', 1],
    ['weightDecay', -0.1],
    ['biasLr', -1],
    ['biasDecay', -1],
    ['dropout', 1],
    ['dropout', -0.1],
    ['dropoutForm', 'none'],
    ['microBatch', 0],
    ['clipNorm', 0],
    ['nonFinite', 'ignore'],
    ['evalBatch', 0],
    ['evalEvery', 0],
    ['joinTimeout', 0],
    ['stepTimeout', Number.POSITIVE_INFINITY],
  ] as const)('refuses %s %j, and says which field and where it was read', (field, value) => {
    const problem = problemOf({ [field]: value });
    expect(problem).toMatch(/^run\.yaml: /);
    expect(problem).toContain(field);
  });

  test.each([
    [{ lrSteps: [30] }, /lrSteps .*lrScheduler step, not plateau/],
    [{ lrScheduler: 'step' }, /lrScheduler step needs lrSteps/],
    [{ lrScheduler: 'exponential' }, /lrScheduler exponential needs lrMin/],
    [{ lrScheduler: 'cosine', lr: 0.01, lrMin: 0.02 }, /lrMin 0\.02 is above lr 0\.01/],
    [{ lrScheduler: 'constant', lrMin: 0.001 }, /lrMin .*not constant/],
  ])('refuses %j, whose fields contradict each other, and names both', (input, message) => {
    expect(problemOf(input)).toMatch(message);
  });

  test('refuses a field that it does not know, by its name', () => {
    expect(problemOf({ learningrate: 0.1 })).toContain('learningrate');
  });

  test('names every field that is wrong', () => {
    expect(problemOf({ batch: 0, momentum: 2 })).toMatch(/batch: .*; momentum: /);
  });

  test.each([null, 7, 'lr', []])('refuses %j, which is no config', (input) => {
    expect(problemOf(input)).toMatch(/^run\.yaml: /);
  });

  test('explains every field: the text becomes the help of its flag', () => {
    const unexplained = Object.entries(runConfigSchema.shape)
      .filter(([, schema]) => (schema.meta()?.description ?? '') === '')
      .map(([field]) => field);
    expect(unexplained).toEqual([]);
  });
});
