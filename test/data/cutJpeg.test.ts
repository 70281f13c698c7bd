// The fast decoder against the general one: where it decodes, the bytes are the same; where anything is out of the ordinary, it leaves the picture to it.

import fc from 'fast-check';
import sharp from 'sharp';
import type { Sharp } from 'sharp';
import { describe, expect, test } from 'vitest';
import { cutPicture } from '../../src/data/augment.ts';
import type { Placement } from '../../src/data/augment.ts';
import type { PictureShape } from '../../src/data/batch.ts';
import { cutJpeg, whyNoCutJpeg } from '../../src/data/cutJpeg.ts';
import { BadPictureError, decodePicture } from '../../src/data/decode.ts';
import type { DecodeRule } from '../../src/data/decode.ts';
import { halves } from './pictureFiles.ts';

/** Noise, blurred so that neighbouring blocks and colours have to do with each other. */
function noisy(width: number, height: number, seed: number): Sharp {
  const pixels = Buffer.alloc(width * height * 3);
  for (let i = 0; i < pixels.length; i++) pixels[i] = Math.imul(i + 1, 2654435761 ^ Math.imul(seed, 40503)) >>> 24;
  return sharp(pixels, { raw: { width, height, channels: 3 } }).blur(0.8);
}

const rule = { size: 48, cropMode: 'center' } as const;
const corner = { top: 3, left: 5, mirrored: false } as const;
const shape: PictureShape = { height: 32, width: 32, channels: 3 };

/** The window, or undefined where it was left to sharp. */
function fastCut(
  jpeg: Uint8Array,
  to: DecodeRule = rule,
  placement: Placement = corner,
  cropped = shape,
): Uint8Array | undefined {
  const out = new Uint8Array(cropped.height * cropped.width * 3);
  return cutJpeg(jpeg, to, placement, out, cropped) ? out : undefined;
}

async function sharpCut(
  jpeg: Uint8Array,
  to: DecodeRule = rule,
  placement: Placement = corner,
  cropped = shape,
): Promise<Uint8Array> {
  const out = new Uint8Array(cropped.height * cropped.width * 3);
  const stored = { height: to.size, width: to.size, channels: 3 } as const;
  cutPicture(await decodePicture(jpeg, to), stored, placement, out, cropped);
  return out;
}

const anyCase = fc
  .record({ side: fc.integer({ min: 9, max: 80 }), more: fc.integer({ min: 0, max: 40 }), isTall: fc.boolean() })
  .chain(({ side, more, isTall }) => {
    const length = fc.integer({ min: 1, max: side });
    return fc.tuple(length, length).chain(([height, width]) =>
      fc.record({
        side: fc.constant(side),
        size: fc.constant(isTall ? ([side, side + more] as const) : ([side + more, side] as const)),
        window: fc.constant({ height, width, channels: 3 as const }),
        top: fc.integer({ min: 0, max: side - height }),
        left: fc.integer({ min: 0, max: side - width }),
        mirrored: fc.boolean(),
        seed: fc.nat(),
        quality: fc.integer({ min: 20, max: 100 }),
        sampling: fc.constantFrom('4:4:4', '4:2:0', 'grey'),
      }),
    );
  });

// Set-up says where it could not make the decoder; everything else is tested without it.
describe.skipIf(whyNoCutJpeg() !== undefined)('a JPEG that needs no resizing', () => {
  test('has to the byte the pixels that sharp makes of it, whatever its window', async () => {
    await fc.assert(
      fc.asyncProperty(anyCase, async ({ side, size, window, top, left, mirrored, seed, quality, sampling }) => {
        const picture = sampling === 'grey' ? noisy(...size, seed).toColourspace('b-w') : noisy(...size, seed);
        const jpeg = await picture.jpeg({ quality, chromaSubsampling: sampling === '4:4:4' ? '4:4:4' : '4:2:0' }).toBuffer();
        const centre = { size: side, cropMode: 'center' } as const;
        const fast = fastCut(jpeg, centre, { top, left, mirrored }, window);
        expect(fast).toBeDefined();
        expect(fast).toEqual(await sharpCut(jpeg, centre, { top, left, mirrored }, window));
      }),
      { numRuns: 150 },
    );
  });

  test('is squeezed into the square by being it', async () => {
    const squash = { size: 48, cropMode: 'squash' } as const;
    const jpeg = await noisy(48, 48, 1).jpeg().toBuffer();
    expect(fastCut(jpeg, squash)).toEqual(await sharpCut(jpeg, squash));
    expect(fastCut(await noisy(60, 48, 1).jpeg().toBuffer(), squash)).toBeUndefined();
  });

  test('of which bytes were changed decodes to what sharp makes of it, or is left to sharp', async () => {
    const jpeg = await noisy(48, 48, 1).jpeg({ quality: 60 }).toBuffer();
    let decoded = 0;
    const damaged = fc.tuple(fc.nat(jpeg.length - 3), fc.uint8Array({ minLength: 1, maxLength: 4 })).map(([at, bytes]) => {
      const copy = Buffer.from(jpeg);
      copy.set(bytes.subarray(0, copy.length - 2 - at), at);
      return copy;
    });
    await fc.assert(
      fc.asyncProperty(damaged, async (bytes) => {
        const fast = fastCut(bytes);
        if (fast === undefined) return;
        decoded++;
        expect(fast).toEqual(await sharpCut(bytes));
      }),
      { numRuns: 300 },
    );
    // Most changes are within the data of the picture, where the next ones still have a meaning.
    expect(decoded).toBeGreaterThan(10);
  });

  test.each<[string, (picture: Sharp) => Sharp]>([
    ['is no JPEG', (picture) => picture.png()],
    ['has another size', (picture) => picture.resize(50, 50).jpeg()],
    ['is progressive', (picture) => picture.jpeg({ progressive: true })],
    ['is turned by its metadata', (picture) => picture.jpeg().withMetadata({ orientation: 6 })],
    ['has a colour profile', (picture) => picture.jpeg().withIccProfile('p3')],
    ['is printed in four inks', (picture) => picture.toColourspace('cmyk').jpeg()],
  ])('is left to sharp where it %s', async (_what, encode) => {
    expect(fastCut(await encode(noisy(48, 48, 1)).toBuffer())).toBeUndefined();
  });

  test('is left to sharp where it ends early, also below the window', async () => {
    const jpeg = await noisy(48, 48, 1).jpeg().toBuffer();
    for (const end of [2, jpeg.length / 8, jpeg.length / 2, jpeg.length - 20]) {
      const cut = jpeg.subarray(0, jpeg.length - end);
      expect(fastCut(cut)).toBeUndefined();
      await expect(sharpCut(cut)).rejects.toThrow(BadPictureError);
    }
  });

  test('is left to sharp where the window begins in the padding, or could be larger than sharp takes', async () => {
    const jpeg = await halves([9, 9, 9], [200, 9, 9], 48, 48).jpeg().toBuffer();
    expect(fastCut(jpeg, rule, { ...corner, top: -1 })).toBeUndefined();
    expect(fastCut(jpeg, rule, { ...corner, left: 17 })).toBeUndefined();
    expect(fastCut(await noisy(800, 800, 1).jpeg().toBuffer(), { size: 800, cropMode: 'center' })).toBeUndefined();
  });
});
