// Picture files on their own become what the network was trained on.

import { join } from 'node:path';
import { expect, test } from 'vitest';
import { DataError } from '../../src/spec/errors.ts';
import { pictureForm, readPictureFile, viewBatch } from '../../src/data/pictureFiles.ts';
import { halves, pictureFolder, plain, put } from './pictureFiles.ts';

const config = { cropMode: 'center' } as const;
const rgb = (side: number) => ({ height: side, width: side, channels: 3 }) as const;
const [red, blue] = [
  [200, 20, 10],
  [10, 20, 200],
] as const;

test('a file is brought to 8/7 of the crop, and a view of the crop is cut from it', async () => {
  const path = join(pictureFolder(), 'one.png');
  await put(path, await halves(red, blue, 32, 16).png().toBuffer());
  const form = pictureForm(config, rgb(14), 14);
  expect(form.stored).toEqual(rgb(16));
  const picture = await readPictureFile(path, form);
  const [middle, mirrored] = [0, 5].map((view) => viewBatch([picture, picture], form, view));
  expect(middle?.shape).toEqual(rgb(14));
  expect(middle?.pixels).toHaveLength(2 * 14 * 14 * 3);
  expect([...(middle?.pixels.subarray(0, 3) ?? [])]).toEqual(red);
  expect([...(mirrored?.pixels.subarray(0, 3) ?? [])]).toEqual(blue);
});

test('for a network of small grey pictures a file becomes small and grey: luminance of colours, grey values as they were', async () => {
  const folder = pictureFolder();
  await put(join(folder, 'red.png'), await plain([255, 0, 0]).png().toBuffer());
  await put(join(folder, 'grey.png'), await plain([77, 77, 77]).png().toBuffer());
  const form = pictureForm(config, { height: 28, width: 28, channels: 1 }, 32);
  const [fromRed, fromGrey] = await Promise.all(['red.png', 'grey.png'].map((name) => readPictureFile(join(folder, name), form)));
  expect(fromRed).toHaveLength(28 * 28);
  expect(new Set(fromRed)).toEqual(new Set([76])); // 0.299 of 255.
  expect(new Set(fromGrey)).toEqual(new Set([77]));
});

test('what cannot be read says which file and why', async () => {
  const folder = pictureFolder();
  const form = pictureForm(config, rgb(14), 14);
  await put(join(folder, 'text.png'), 'no picture');
  const read = (name: string): Promise<unknown> => readPictureFile(join(folder, name), form);
  await expect(read('text.png')).rejects.toThrow(/text\.png cannot be read as a picture: neither JPEG nor PNG nor WebP/);
  await expect(read('none.png')).rejects.toThrow(/none\.png could not be read/);
  await expect(read('none.png')).rejects.toThrow(DataError);
  expect(() => pictureForm(config, { height: 20, width: 10, channels: 1 }, 32)).toThrow(/20x10/);
});
