// Whatever a picture file's colours, depth and orientation: 8-bit RGB comes out, of the size that was asked for; and what is no picture is refused.

import { deflateSync, crc32 } from 'node:zlib';
import fc from 'fast-check';
import sharp from 'sharp';
import type { Sharp } from 'sharp';
import { describe, expect, test } from 'vitest';
import { BadPictureError, decodePicture } from '../../src/data/decode.ts';
import { halves, plain } from './pictureFiles.ts';

const red = [200, 30, 40] as const;
const blue = [20, 60, 220] as const;
const centre = { size: 16, cropMode: 'center' } as const;

/** The colour at a place of a decoded square. */
function at(pixels: Uint8Array, x: number, y: number, size = 16): number[] {
  return [...pixels.subarray(3 * (y * size + x), 3 * (y * size + x) + 3)];
}

/** JPEG's quantisation, of colours that fill their blocks; two levels at quality 100. */
function expectColour(actual: readonly number[], expected: readonly number[], tolerance = 2): void {
  for (const [i, value] of expected.entries()) expect(Math.abs(actual[i]! - value)).toBeLessThanOrEqual(tolerance);
}

describe('a picture', () => {
  test.each([
    ['JPEG', (image: Sharp) => image.jpeg({ quality: 100, chromaSubsampling: '4:4:4' })],
    ['PNG', (image: Sharp) => image.png()],
    ['WebP', (image: Sharp) => image.webp({ lossless: true })],
  ])('in %s keeps its colours', async (_format, encode) => {
    expectColour(at(await decodePicture(await encode(plain(red)).toBuffer(), centre), 8, 8), red);
  });

  test('keeps its middle: the sides of a wide one are cut off, or squeezed in where that was asked for', async () => {
    // 60 x 20: red in the left half, blue in the right one.
    const wide = await halves(red, blue, 60, 20).png().toBuffer();
    const cut = await decodePicture(wide, { size: 20, cropMode: 'center' });
    expect(at(cut, 0, 0, 20)).toEqual([...red]);
    expect(at(cut, 9, 5, 20)).toEqual([...red]);
    expect(at(cut, 10, 5, 20)).toEqual([...blue]);
    const squeezed = await decodePicture(wide, { size: 20, cropMode: 'squash' });
    expect(at(squeezed, 4, 5, 20)).toEqual([...red]);
    expect(at(squeezed, 15, 5, 20)).toEqual([...blue]);
  });

  test('smaller than the square is enlarged', async () => {
    expect(at(await decodePicture(await plain(red, 4, 3).png().toBuffer(), centre), 15, 15)).toEqual([...red]);
  });

  test('in grey, in CMYK, with 16 bits or with alpha becomes 8-bit RGB', async () => {
    const grey = await plain([90, 90, 90]).toColourspace('b-w').jpeg({ quality: 100 }).toBuffer();
    expectColour(at(await decodePicture(grey, centre), 3, 3), [90, 90, 90]);
    const cmyk = await plain(red).toColourspace('cmyk').jpeg({ quality: 100 }).toBuffer();
    expect((await sharp(cmyk).metadata()).space).toBe('cmyk');
    // Ink on paper has other reds; it is still much more red than green or blue.
    const [r, g, b] = at(await decodePicture(cmyk, centre), 3, 3);
    expect(r! - Math.max(g!, b!)).toBeGreaterThan(80);
    const deep = await plain(red).toColourspace('rgb16').png().toBuffer();
    expect((await sharp(deep).metadata()).depth).toBe('ushort');
    expectColour(at(await decodePicture(deep, centre), 3, 3), red, 1);
    const deepGrey = await plain([90, 90, 90]).toColourspace('grey16').png().toBuffer();
    expectColour(at(await decodePicture(deepGrey, centre), 3, 3), [90, 90, 90], 1);
    const clear = await plain(red).ensureAlpha(0.25).png().toBuffer();
    // Resizing multiplies by alpha and divides by it again: a rounding at a quarter of the values.
    expectColour(at(await decodePicture(clear, centre), 3, 3), red, 4);
  });

  test('is turned as its EXIF orientation says', async () => {
    // Stored on its side: orientation 6 turns it clockwise, so that left becomes top.
    const turned = await halves(red, blue, 32, 16).jpeg({ quality: 100 }).withMetadata({ orientation: 6 }).toBuffer();
    const pixels = await decodePicture(turned, centre);
    expectColour(at(pixels, 8, 2), red, 6);
    expectColour(at(pixels, 8, 13), blue, 6);
  });
});

/** A PNG that claims a size and holds next to nothing. */
function pngBomb(width: number, height: number): Buffer {
  const chunk = (type: string, data: Buffer): Buffer => {
    const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
    const frame = Buffer.alloc(8);
    frame.writeUInt32BE(data.length, 0);
    frame.writeUInt32BE(crc32(body), 4);
    return Buffer.concat([frame.subarray(0, 4), body, frame.subarray(4)]);
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2, 0, 0, 0], 8);
  const signature = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1');
  return Buffer.concat([
    signature,
    chunk('IHDR', header),
    chunk('IDAT', deflateSync(Buffer.alloc(1 << 20))),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

describe('what is no picture, or a broken one, is refused as one:', () => {
  test('nothing, text, SVG, GIF, and a picture that is cut short', async () => {
    const jpeg = await plain(red, 200, 200).jpeg().toBuffer();
    const svg = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>';
    const gif = Buffer.from('R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7', 'base64');
    for (const bytes of [
      Buffer.alloc(0),
      Buffer.from('not a picture'),
      Buffer.from(svg),
      gif,
      jpeg.subarray(0, jpeg.length / 2),
    ]) {
      await expect(decodePicture(bytes, centre)).rejects.toThrow(BadPictureError);
    }
    // Also one that begins as a picture does.
    await expect(decodePicture(Buffer.from(`\xff\xd8\xff${svg}`, 'latin1'), centre)).rejects.toThrow(BadPictureError);
  });

  test('one that names billions of pixels, without the memory for them', async () => {
    const before = process.memoryUsage().rss;
    await expect(decodePicture(pngBomb(30_000, 30_000), centre)).rejects.toThrow(/pixel limit/i);
    expect(process.memoryUsage().rss - before).toBeLessThan(200e6);
  });

  test('any other bytes', async () => {
    const jpeg = await plain(red).jpeg().toBuffer();
    const damaged = fc.tuple(fc.nat(jpeg.length - 1), fc.uint8Array({ minLength: 1, maxLength: 20 })).map(([at, bytes]) => {
      const copy = Buffer.from(jpeg);
      copy.set(bytes.subarray(0, copy.length - at), at);
      return copy;
    });
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.uint8Array({ maxLength: 200 }), damaged), async (bytes) => {
        const result = await decodePicture(bytes, centre).catch((error: unknown) => error);
        if (result instanceof Error) expect(result).toBeInstanceOf(BadPictureError);
        else expect(result).toHaveLength(16 * 16 * 3);
      }),
      { numRuns: 200 },
    );
  });
});
