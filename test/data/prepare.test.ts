// The parts of `coordinator prepare`; the whole of it is in test/processes/prepare.test.ts.

import fc from 'fast-check';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { BadPictureError, shortSideJpeg } from '../../src/data/decode.ts';
import { inOrder } from '../../src/data/prepare/inOrder.ts';
import { readSynsets } from '../../src/data/prepare/matFile.ts';
import { PixelSums } from '../../src/data/statistics.ts';
import { DataError } from '../../src/spec/errors.ts';
import { matFile, synsets } from './imageNetFiles.ts';
import { plain } from './pictureFiles.ts';

const wanted = synsets.map(({ id, wnid, words }) => ({ id, wnid, words }));

describe('the synsets of a MATLAB file', () => {
  test.each([true, false])('are read (compressed: %s)', (isCompressed) => {
    expect(readSynsets(matFile(synsets, { isCompressed }), 'meta.mat')).toEqual(wanted);
  });

  test('keep letters beyond ASCII', () => {
    const [first] = readSynsets(matFile([{ id: 7, wnid: 'n00000007', words: 'café' }]), 'meta.mat');
    expect(first).toEqual({ id: 7, wnid: 'n00000007', words: 'café' });
  });

  test('of any bytes are synsets or a DataError', () => {
    const sound = [matFile(synsets), matFile(synsets, { isCompressed: false })];
    const change = fc.record({ at: fc.nat(), value: fc.nat(255) });
    fc.assert(
      fc.property(fc.constantFrom(...sound), fc.array(change, { minLength: 1, maxLength: 6 }), fc.nat(), (file, changes, end) => {
        const damaged = Buffer.from(file);
        for (const { at, value } of changes) damaged[at % damaged.length] = value;
        expectOnlyDataError(damaged);
        expectOnlyDataError(damaged.subarray(0, end % damaged.length));
      }),
      { numRuns: 2000 },
    );
  });

  test('are not inflated without end', () => {
    // 65 MiB of zeros in 64 KB.
    const file = matFile([{ id: 1, wnid: 'n00000001', words: ' '.repeat(65 * 1024 * 1024) }]);
    expect(file.length).toBeLessThan(1e6);
    expect(() => readSynsets(file, 'meta.mat')).toThrow(DataError);
  });
});

function expectOnlyDataError(file: Buffer): void {
  try {
    readSynsets(file, 'meta.mat');
  } catch (error) {
    expect(error).toBeInstanceOf(DataError);
  }
}

describe('a picture brought to a short side', () => {
  test.each([
    [80, 40, 48, 24],
    [30, 90, 24, 72],
    [10, 10, 24, 24],
  ])('of %ix%i becomes %ix%i', async (width, height, newWidth, newHeight) => {
    const bytes = await plain([200, 100, 50], width, height).png().toBuffer();
    const { pixels, jpeg } = await shortSideJpeg(bytes, { shortSide: 24, quality: 90 });
    expect(pixels.length).toBe(newWidth * newHeight * 3);
    expect([...pixels.subarray(0, 3)]).toEqual([200, 100, 50]);
    expect(await sharp(jpeg).metadata()).toMatchObject({ format: 'jpeg', width: newWidth, height: newHeight });
  });

  test('is refused where it would become a line without end', async () => {
    const line = await plain([1, 2, 3], 1, 20_000).png().toBuffer();
    await expect(shortSideJpeg(line, { shortSide: 256, quality: 90 })).rejects.toThrow(/1x20000 is too long and thin/);
    await expect(shortSideJpeg(Buffer.from('GIF89a'), { shortSide: 256, quality: 90 })).rejects.toBeInstanceOf(BadPictureError);
  });
});

test('sums that were kept are as if taken at once', () => {
  const pixels = Uint8Array.from({ length: 300 }, (_, i) => (i * 37) % 256);
  const [whole, first, second] = [new PixelSums(3), new PixelSums(3), new PixelSums(3)];
  whole.add(pixels);
  first.add(pixels.subarray(0, 99));
  second.add(pixels.subarray(99));
  second.addExact(first.exact);
  expect(second.exact).toEqual(whole.exact);
  expect(second.statistics).toEqual(whole.statistics);
});

test('work on many items keeps their order and its limit', async () => {
  const [releases, started]: [(() => void)[], number[]] = [[], []];
  const results = inOrder([5, 6, 7, 8], 3, async (item) => {
    started.push(item);
    await new Promise<void>((resolve) => releases.push(resolve));
    return item;
  });
  const first = results.next();
  expect(started).toEqual([5, 6, 7]);
  for (const release of releases.splice(0).reverse()) release();
  expect(await first).toEqual({ done: false, value: 5 });
  const rest = (async () => {
    const items = [];
    for await (const item of results) items.push(item);
    return items;
  })();
  await Promise.resolve();
  for (const release of releases.splice(0)) release();
  expect(await rest).toEqual([6, 7, 8]);
});
