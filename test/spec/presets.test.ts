// Presets: what each stands for, and that everything that was said wins over them.

import { describe, expect, test } from 'vitest';
import { parseRunConfig, runConfigSchema } from '../../src/spec/config.ts';
import type { RunConfig } from '../../src/spec/config.ts';
import { withPreset } from '../../src/spec/presets.ts';
import { totalSteps } from '../../src/spec/schedule.ts';

const names = runConfigSchema.shape.preset.unwrap().options;
const ilsvrc2012 = 1_281_167;

function resolve(given: Readonly<Record<string, unknown>>): RunConfig {
  return parseRunConfig(withPreset(given), 'test');
}

describe('a preset', () => {
  test("'paper' is what the schema says of itself", () => {
    expect(resolve({ preset: 'paper' })).toEqual(parseRunConfig({}, 'defaults'));
    expect(resolve({})).toEqual(parseRunConfig({}, 'defaults'));
  });

  test.each(names)('%s is kept by name, and what it resolves to resolves to itself', (preset) => {
    for (const network of ['alexnet', 'tiny']) {
      const config = resolve({ preset, network });
      expect(config.preset).toBe(preset);
      expect(resolve(config)).toEqual(config);
    }
  });

  test.each(names)('%s gives way to every field that is said', (preset) => {
    const given = {
      preset,
      lr: 0.5,
      batch: 7,
      epochs: 2,
      lrn: 'none',
      dropout: 0,
      mean: [1, 2, 3],
      cropSize: 200,
      momentum: 0.3,
    };
    expect(resolve(given)).toMatchObject(given);
  });

  test.each(names)('%s takes another schedule without contradicting it', (preset) => {
    expect(resolve({ preset, lrScheduler: 'cosine' })).toMatchObject({ lrScheduler: 'cosine', lrSteps: [], lrMin: 0 });
  });

  test('brings the sizes of the full network to no smaller one', () => {
    expect(resolve({ preset: 'kratzert' })).toMatchObject({ cropSize: 227, resizeSize: 227 });
    expect(resolve({ preset: 'kratzert', network: 'compact' })).not.toHaveProperty('cropSize');
  });

  test("'caffe' is its 450,000 iterations, with a tenth of the rate after each 100,000", () => {
    const config = resolve({ preset: 'caffe' });
    expect(totalSteps(config, ilsvrc2012)).toBe(450_000);
    expect(config.lrSteps.map((epoch) => Math.round((epoch * ilsvrc2012) / 256 / 1000))).toEqual([100, 200, 300, 400]);
  });

  test('that does not exist is named', () => {
    expect(() => resolve({ preset: 'resnet' })).toThrow(/preset/);
  });
});
