// The threads run the built code (Node 20 runs no TypeScript): build before these tests.

import { describe, expect, onTestFinished, test } from 'vitest';
import type { DataSource } from '../../src/data/batch.ts';
import { cacheFolder, fashionMnistClasses, fashionMnistFolder, fashionMnistSources } from '../../src/data/fashionMnist.ts';
import { openData } from '../../src/data/openData.ts';
import type { DataConfig, OpenDataOptions } from '../../src/data/openData.ts';
import { parseRunConfig } from '../../src/spec/config.ts';
import { DataError, UsageError } from '../../src/spec/errors.ts';
import { idxFolder } from './idxFiles.ts';

const options: OpenDataOptions = { cropSize: 67, threads: 1, cacheFolder: cacheFolder(process.env), log: () => undefined };

async function opened(config: Partial<DataConfig>, changed: Partial<OpenDataOptions> = {}): Promise<DataSource> {
  const source = await openData(
    { ...parseRunConfig({ data: 'synthetic:64,10,80', augment: 'none' }, 'test'), ...config },
    { ...options, ...changed },
  );
  onTestFinished(() => source.close());
  return source;
}

/** Whether Fashion-MNIST is here or in Debian's archive; a test does not download from further away. */
const nearSources = fashionMnistSources().slice(0, 2);
const hasFashionMnist = await fashionMnistFolder(options.cacheFolder, { sources: nearSources, log: options.log }).then(
  () => true,
  () => false,
);

describe('openData', () => {
  test('opens a folder of IDX files', async () => {
    const folder = await idxFolder();
    const source = await opened({ data: folder });
    expect(source).toMatchObject({ name: folder, classes: ['0', '1', '2'], counts: { train: 6, test: 2 } });
    expect(source.shape).toEqual({ height: 4, width: 4, channels: 1 });
    expect(source.mean).toEqual([95 / 2]);
    const batch = await source.load({ split: 'train', epoch: 0, indices: Uint32Array.of(5, 1) });
    expect([...batch.labels]).toEqual([2, 1]);
    expect([...batch.pixels]).toEqual([...Array(16).keys()].map((i) => 80 + i).concat([...Array(16).keys()].map((i) => 16 + i)));
  });

  test('keeps the first training pictures only when so asked, and all classes', async () => {
    const source = await opened({ data: await idxFolder(), limitTrain: 2 });
    expect(source.counts).toEqual({ train: 2, test: 2 });
    expect(source.classes.length).toBe(3);
    expect(source.mean).toEqual([31 / 2]);
  });

  test('opens synthetic pictures and crops them to the network', async () => {
    const source = await opened({}, { cropSize: 48 });
    expect(source).toMatchObject({ name: 'synthetic:64,10,80', counts: { train: 80, test: 10 } });
    expect(source.shape).toEqual({ height: 48, width: 48, channels: 3 });
    const batch = await source.load({ split: 'train', epoch: 0, indices: Uint32Array.of(3) });
    expect(batch.pixels.length).toBe(48 * 48 * 3);
    expect([...batch.labels]).toEqual([3]);
  });

  test('takes a mean colour from the config, and for grey pictures a grey one', async () => {
    expect((await opened({ mean: [1, 2, 3] })).mean).toEqual([1, 2, 3]);
    const folder = await idxFolder();
    expect((await opened({ data: folder, mean: [7, 7, 7] })).mean).toEqual([7]);
    await expect(opened({ data: folder, mean: [1, 2, 3] })).rejects.toThrow(UsageError);
  });

  test('names a folder that is not there', async () => {
    const opening = opened({ data: '/nowhere/pictures' });
    await expect(opening).rejects.toThrow(/\/nowhere\/pictures/);
    await expect(opening).rejects.toBeInstanceOf(DataError);
  });

  test.runIf(hasFashionMnist)('opens the real Fashion-MNIST', async () => {
    const source = await opened({ data: 'fashion-mnist' });
    expect(source.counts).toEqual({ train: 60_000, test: 10_000 });
    expect(source.shape).toEqual({ height: 28, width: 28, channels: 1 });
    expect(source.classes).toEqual(fashionMnistClasses);
    // Computed from the published files by other means (Python, integers); the deviation's sums are taken in another order.
    expect(source.mean).toEqual([72.94035223214286]);
    expect(source.deviation[0]).toBeCloseTo(90.02118235130526, 10);
    const train = await source.load({ split: 'train', epoch: 0, indices: Uint32Array.from(Array(10).keys()) });
    expect([...train.labels]).toEqual([9, 0, 0, 3, 0, 2, 7, 2, 5, 5]);
    expect(train.pixels.subarray(0, 784).reduce((sum, value) => sum + value, 0)).toBe(76_247);
    const test = await source.load({ split: 'test', epoch: 0, indices: Uint32Array.from(Array(10).keys()) });
    expect([...test.labels]).toEqual([9, 2, 1, 1, 6, 1, 4, 6, 5, 7]);
  });
});
