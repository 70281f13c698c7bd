// Which configs an ablation runs, and what it says of those that are wrong.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { parseSeeds, planVariants, readVariantSet, variantSets } from '../../../src/coordinator/ablation/variants.ts';
import type { VariantSet } from '../../../src/coordinator/ablation/variants.ts';
import { parseRunConfig } from '../../../src/spec/config.ts';
import { UsageError } from '../../../src/spec/errors.ts';

const folder = mkdtempSync(join(tmpdir(), 'crosstower-variants-'));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

function fileWith(text: string): string {
  const path = join(folder, 'variants.yaml');
  writeFileSync(path, text);
  return path;
}

const set: VariantSet = { base: { lr: 0.1, batch: 32 }, variants: { plain: {}, small: { batch: 16, dropout: 0 } } };

describe('the configs', () => {
  test('are the base, the typed fields over it and the variant over both, with every seed', () => {
    const planned = planVariants(set, { lr: 0.2, batch: 8 }, [3, 1], 'x');
    expect(planned.map(({ name, seed }) => [name, seed])).toEqual([
      ['plain', 3],
      ['plain', 1],
      ['small', 3],
      ['small', 1],
    ]);
    expect(planned.map(({ config }) => [config.lr, config.batch, config.dropout, config.seed])).toEqual([
      [0.2, 8, 0.5, 3],
      [0.2, 8, 0.5, 1],
      [0.2, 16, 0, 3],
      [0.2, 16, 0, 1],
    ]);
  });

  test('start from the preset that any of them names', () => {
    const [config] = planVariants({ base: {}, variants: { a: { preset: 'caffe', lr: 0.3 } } }, {}, [1], 'x').map((v) => v.config);
    expect(config).toMatchObject({ preset: 'caffe', channelOrder: 'bgr', lr: 0.3 });
  });

  test.each(Object.entries(variantSets))(
    'of the built-in set %s differ in what each variant names, and in nothing else',
    (_, { base, variants }) => {
      const planned = planVariants({ base, variants }, {}, [1], 'x');
      expect(planned.length).toBeGreaterThan(1);
      for (const { name, config } of planned)
        expect(config).toEqual(parseRunConfig({ ...base, ...variants[name], seed: 1 }, name));
      expect(new Set(planned.map(({ config }) => JSON.stringify(config))).size).toBe(planned.length);
    },
  );
});

describe('a wrong config', () => {
  test('is refused with the name of its variant, once for all seeds, and all wrong ones together', () => {
    const plan = () =>
      planVariants({ base: {}, variants: { good: {}, 'bad one': { dropout: 2 }, worse: { nonsense: 1 } } }, {}, [1, 2], 'f.yaml');
    expect(plan).toThrow(UsageError);
    expect(plan).toThrow(/^f\.yaml, variant 'bad one': dropout: .*\nf\.yaml, variant 'worse': .*nonsense.*$/);
  });

  test('that contradicts the base is refused', () => {
    const contradiction = { base: { lrScheduler: 'step', lrSteps: [1] }, variants: { a: { lrScheduler: 'cosine' } } };
    expect(() => planVariants(contradiction, {}, [1], 'x')).toThrow(/variant 'a': lrSteps goes with/);
  });

  test('that says a seed is refused', () => {
    expect(() => planVariants({ base: { seed: 1 }, variants: { a: {} } }, {}, [1], 'x')).toThrow(/variant 'a': seed: .*--seeds/);
    expect(() => planVariants({ base: {}, variants: { a: { seed: 1 } } }, {}, [1], 'x')).toThrow(/--seeds/);
  });
});

describe('a file of variants', () => {
  test('has a base and variants, which may change nothing', () => {
    expect(readVariantSet(fileWith('base: {lr: 0.1}\nvariants:\n  plain:\n  no dropout: {dropout: 0}\n'))).toEqual({
      base: { lr: 0.1 },
      variants: { plain: {}, 'no dropout': { dropout: 0 } },
    });
    expect(readVariantSet(fileWith('variants: {a: {}}'))).toEqual({ base: {}, variants: { a: {} } });
  });

  test.each([
    ['variants: {}', /name at least one/],
    ['base: {lr: 1}', /variants/],
    ['variants: {a: 3}', /variants\.a: /],
    ['variants: {../a: {}}', /variants\.\.\.\/a: .*1 to 64 characters, no \//],
    ['variants: {.: {}}', /no dot in front/],
    ['variants: {"": {}}', /1 to 64 characters/],
    ['variants: {a: {}}\nbatch: 3', /batch/],
    ['variants: [', /could not be read/],
    ['', /variants/],
  ])('%j is refused', (text, message) => {
    const read = () => readVariantSet(fileWith(text));
    expect(read).toThrow(UsageError);
    expect(read).toThrow(message);
    expect(read).toThrow(/variants\.yaml/);
  });

  test('that is not there is named', () => {
    expect(() => readVariantSet(join(folder, 'none.yaml'))).toThrow(/none\.yaml could not be read/);
  });
});

describe('seeds', () => {
  test('are different whole numbers', () => {
    expect(parseSeeds('1, 2,30')).toEqual([1, 2, 30]);
    for (const wrong of ['', '1,', '1,1', 'a', '-1', '1.5', '1 2', '99999999999999999999'])
      expect(() => parseSeeds(wrong)).toThrow(/--seeds takes/);
  });
});
