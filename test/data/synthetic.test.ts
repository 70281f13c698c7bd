import { describe, expect, test } from 'vitest';
import { bytesOf, openPictures } from '../../src/data/pictures.ts';
import { parseSyntheticSpec, syntheticDataset } from '../../src/data/synthetic.ts';
import { UsageError } from '../../src/spec/errors.ts';

describe('a synthetic spec', () => {
  test('fills in what is left out', () => {
    expect(parseSyntheticSpec('synthetic')).toEqual({ size: 256, classes: 1000, count: 4096 });
    expect(parseSyntheticSpec('synthetic:64')).toEqual({ size: 64, classes: 1000, count: 4096 });
    expect(parseSyntheticSpec('synthetic:64,10,256')).toEqual({ size: 64, classes: 10, count: 256 });
  });

  test('is not seen in the name of a folder', () => {
    expect(parseSyntheticSpec('synthetic-pictures')).toBeUndefined();
    expect(parseSyntheticSpec('/data/synthetic')).toBeUndefined();
  });

  test.each([
    'synthetic:',
    'synthetic:0',
    'synthetic:-1',
    'synthetic:1e3',
    'synthetic:64,1',
    'synthetic:64,10,',
    'synthetic:4096',
    'synthetic:1,2,3,4',
  ])('%s is a usage error that repeats it', (text) => {
    expect(() => parseSyntheticSpec(text)).toThrow(UsageError);
    expect(() => parseSyntheticSpec(text)).toThrow(text);
  });
});

describe('synthetic pictures', () => {
  const spec = { size: 32, classes: 10, count: 100 };

  test('are the same for the same seed and others for another', () => {
    const first = syntheticDataset(spec, 1);
    const again = syntheticDataset(spec, 1);
    const other = syntheticDataset(spec, 2);
    expect(again.splits.train.pixels).toEqual(first.splits.train.pixels);
    expect(again.splits.train.starts).toEqual(first.splits.train.starts);
    expect(other.splits.train.pixels).not.toEqual(first.splits.train.pixels);
    expect(other.splits.train.starts).not.toEqual(first.splits.train.starts);
  });

  test('come in all classes equally, one to test for eight to train', () => {
    const { splits, classes } = syntheticDataset(spec, 1);
    expect(classes.length).toBe(10);
    expect(splits.train.labels.length).toBe(100);
    expect(splits.test.labels.length).toBe(13);
    expect(splits.train.labels.filter((label) => label === 7).length).toBe(10);
  });

  test('have the colour of their class, so that there is something to learn', () => {
    const { splits } = syntheticDataset(spec, 1);
    const colours = [splits.train, splits.test].map((store) => {
      const pictures = openPictures(store);
      return Array.from({ length: 10 }, (_, index) => {
        const pixels = new Uint8Array(bytesOf(store.shape));
        void pictures.cut(index, { top: 0, left: 0, mirrored: false }, pixels, store.shape);
        return [0, 1, 2].map((channel) => pixels.reduce((sum, value, i) => sum + (i % 3 === channel ? value : 0), 0) / (32 * 32));
      });
    });
    // Uniform noise of 128 steps averaged over 1024 pixels deviates by 37 / 32: six of that between two averages.
    colours[0]?.forEach((train, label) => {
      train.forEach((value, channel) => {
        expect(Math.abs(value - (colours[1]?.[label]?.[channel] ?? NaN))).toBeLessThan(6 * Math.SQRT2 * (37 / 32));
      });
    });
  });

  test('of any size and number of classes lie inside the pool', () => {
    for (const [size, classes] of [
      [1, 2],
      [3, 10_000],
      [256, 1000],
      [300, 7],
      [1024, 2000],
    ] as const) {
      const { splits } = syntheticDataset({ size, classes, count: 2 * classes }, 5);
      const last = splits.train.starts.reduce((most, start) => Math.max(most, start));
      expect(last + bytesOf(splits.train.shape)).toBeLessThanOrEqual(splits.train.pixels.length);
    }
  });
});
