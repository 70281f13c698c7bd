// The confusion matrix as a table and as a picture.

import { expect, test } from 'vitest';
import sharp from 'sharp';
import { confusionCsv, confusionSvg, rowShares } from '../../src/coordinator/confusionPicture.ts';

const confusion = { classes: ['cat', 'dog, "big"', 'a<b'], counts: Uint32Array.of(3, 1, 0, 0, 2, 0, 0, 0, 0) };

test('the table has the true class in each row and the predicted ones in the header, with quotes where a name needs them', () => {
  expect(confusionCsv(confusion)).toBe(
    'true \\ predicted,cat,"dog, ""big""",a<b\r\ncat,3,1,0\r\n"dog, ""big""",0,2,0\r\na<b,0,0,0\r\n',
  );
});

test('the shares of a row sum to one, or are zero without pictures', () => {
  expect([...rowShares(confusion)]).toEqual([0.75, 0.25, 0, 0, 1, 0, 0, 0, 0]);
});

test('few classes are named in a map of one cell for each share above zero, in colours for light and dark', async () => {
  const svg = await confusionSvg(confusion);
  expect(svg.match(/fill-opacity="/g)).toHaveLength(3);
  expect(svg).toContain('cat taken for dog, &quot;big&quot;: 25.0%');
  expect(svg).toContain('>a&lt;b</text>');
  expect(svg).not.toContain('a<b');
  expect(svg).toContain('prefers-color-scheme: dark');
  // Another program reads it.
  expect((await sharp(Buffer.from(svg)).metadata()).format).toBe('svg');
});

test('many classes become an image whose pixel is a cell, its opacity the share', async () => {
  const count = 50;
  const counts = new Uint32Array(count * count);
  counts[1] = 1;
  counts[2] = 3;
  const svg = await confusionSvg({ classes: Array.from({ length: count }, (_, i) => `class ${String(i)}`), counts });
  expect(svg).not.toContain('class 1');
  const [, base64] = /base64,([^"]+)/.exec(svg) ?? [];
  const { data, info } = await sharp(Buffer.from(base64 ?? '', 'base64'))
    .raw()
    .toBuffer({ resolveWithObject: true });
  expect([info.width, info.height, info.channels]).toEqual([count, count, 4]);
  expect([3, 7, 11, 15].map((at) => data[at])).toEqual([0, Math.round(255 / 4), Math.round((3 * 255) / 4), 0]);
});
