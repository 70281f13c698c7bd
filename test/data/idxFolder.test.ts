import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { readIdxFolder } from '../../src/data/idxFolder.ts';
import { DataError } from '../../src/spec/errors.ts';
import { idxBytes, idxFolder } from './idxFiles.ts';

describe('a folder of four IDX files', () => {
  test('gives pictures and labels of both splits', async () => {
    const { splits, classCount } = await readIdxFolder(await idxFolder());
    expect(classCount).toBe(3);
    expect(splits.train.shape).toEqual({ height: 4, width: 4, channels: 1 });
    expect([...splits.train.starts]).toEqual([0, 16, 32, 48, 64, 80]);
    expect([...splits.train.labels]).toEqual([0, 1, 2, 0, 1, 2]);
    expect([...splits.test.labels]).toEqual([2, 0]);
    expect(splits.test.pixels[17]).toBe(255 - 17);
  });

  test('may spell its names with a dot and be compressed', async () => {
    const labels = gzipSync(idxBytes([6], Uint8Array.of(0, 1, 2, 0, 1, 2)));
    const folder = await idxFolder({ 'train-labels-idx1-ubyte': null, 'train-labels.idx1-ubyte.gz': labels });
    await rename(join(folder, 't10k-images-idx3-ubyte'), join(folder, 't10k-images.idx3-ubyte'));
    const { splits } = await readIdxFolder(folder);
    expect([...splits.train.labels]).toEqual([0, 1, 2, 0, 1, 2]);
  });

  test('that is not there is named', async () => {
    await expect(readIdxFolder('/nowhere/pictures')).rejects.toThrow(/no data folder \/nowhere\/pictures/);
    await expect(readIdxFolder('/nowhere/pictures')).rejects.toBeInstanceOf(DataError);
  });

  test.each<[string, Record<string, Uint8Array | null>, RegExp]>([
    ['a missing file', { 't10k-labels-idx1-ubyte': null }, /no t10k-labels-idx1-ubyte/],
    ['too few labels', { 'train-labels-idx1-ubyte': idxBytes([5], Uint8Array.of(0, 1, 2, 0, 1)) }, /5 labels for the 6 pictures/],
    [
      'a test label out of range',
      { 't10k-labels-idx1-ubyte': idxBytes([2], Uint8Array.of(0, 3)) },
      /label 3 of picture 1 is out of range/,
    ],
    [
      'a class without pictures',
      { 'train-labels-idx1-ubyte': idxBytes([6], Uint8Array.of(0, 3, 2, 0, 3, 2)) },
      /no picture has label 1/,
    ],
    ['one class only', { 'train-labels-idx1-ubyte': idxBytes([6], new Uint8Array(6)) }, /two classes or more/],
    [
      'test pictures of another size',
      { 't10k-images-idx3-ubyte': idxBytes([2, 4, 5], new Uint8Array(40)) },
      /4x4 pixels, the test .* 4x5/,
    ],
    ['no pictures', { 't10k-images-idx3-ubyte': idxBytes([0, 4, 4], new Uint8Array(0)) }, /holds no pictures/],
  ])('with %s is refused', async (_, replaced, message) => {
    const folder = await idxFolder(replaced);
    await expect(readIdxFolder(folder)).rejects.toThrow(message);
    await expect(readIdxFolder(folder)).rejects.toThrow(folder);
    await expect(readIdxFolder(folder)).rejects.toBeInstanceOf(DataError);
  });
});
