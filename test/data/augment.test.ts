import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { centrePlacement, croppedShape, cutPicture, trainingPlacements } from '../../src/data/augment.ts';
import type { AugmentOptions, Placement } from '../../src/data/augment.ts';
import type { PictureShape } from '../../src/data/batch.ts';
import { bytesOf } from '../../src/data/pictures.ts';

const anyShape: fc.Arbitrary<PictureShape> = fc.record({
  height: fc.integer({ min: 1, max: 40 }),
  width: fc.integer({ min: 1, max: 40 }),
  channels: fc.constantFrom(1, 3),
});

const anyOptions: fc.Arbitrary<AugmentOptions> = fc.record({
  seed: fc.maxSafeNat(),
  augment: fc.constantFrom('crop-flip', 'flip', 'none'),
  cropSize: fc.integer({ min: 1, max: 40 }),
});

/** One pixel at a time: zero outside the picture, columns counted from the right when mirrored. */
function naiveCut(
  picture: Uint8Array,
  stored: PictureShape,
  { top, left, mirrored }: Placement,
  cropped: PictureShape,
): number[] {
  const out: number[] = [];
  for (let y = 0; y < cropped.height; y++) {
    for (let x = 0; x < cropped.width; x++) {
      const row = top + y;
      const column = left + (mirrored ? cropped.width - 1 - x : x);
      const inside = row >= 0 && row < stored.height && column >= 0 && column < stored.width;
      for (let c = 0; c < stored.channels; c++) {
        out.push(inside ? (picture[(row * stored.width + column) * stored.channels + c] ?? NaN) : 0);
      }
    }
  }
  return out;
}

const picturesOf = (count: number) => Array.from({ length: count }, (_, i) => i);

describe('a cut', () => {
  test('equals the naive one, pixel by pixel', () => {
    fc.assert(
      fc.property(anyShape, anyOptions, fc.nat(3), fc.nat(100_000), (stored, options, epoch, index) => {
        const cropped = croppedShape(stored, options.cropSize);
        const picture = Uint8Array.from({ length: bytesOf(stored) }, (_, i) => 1 + (i % 255));
        for (const placement of [trainingPlacements(stored, options, epoch)(index), centrePlacement(stored, options.cropSize)]) {
          const out = new Uint8Array(bytesOf(cropped)).fill(7);
          cutPicture(picture, stored, placement, out, cropped);
          expect([...out]).toEqual(naiveCut(picture, stored, placement, cropped));
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe('training placements', () => {
  const options = { seed: 1, augment: 'crop-flip', cropSize: 224 } as const;
  const large: PictureShape = { height: 256, width: 256, channels: 3 };
  const small: PictureShape = { height: 28, width: 28, channels: 1 };

  test('reach every window of a larger picture and no other', () => {
    const placements = picturesOf(2000).map(trainingPlacements(large, options, 0));
    const tops = new Set(placements.map(({ top }) => top));
    const lefts = new Set(placements.map(({ left }) => left));
    const every = new Set(picturesOf(33));
    expect(tops).toEqual(every);
    expect(lefts).toEqual(every);
  });

  test('shift a picture of 28 pixels by up to 2 either way and keep its size', () => {
    const placements = picturesOf(500).map(trainingPlacements(small, options, 0));
    expect(new Set(placements.map(({ top }) => top))).toEqual(new Set([-2, -1, 0, 1, 2]));
    expect(new Set(placements.map(({ left }) => left))).toEqual(new Set([-2, -1, 0, 1, 2]));
    expect(croppedShape(small, options.cropSize)).toEqual(small);
  });

  test('mirror half of the pictures, independently of where they are cut', () => {
    const placements = picturesOf(4000).map(trainingPlacements(small, options, 0));
    const mirrored = placements.filter((placement) => placement.mirrored);
    // Four standard deviations of a binomial count around one half, and around one fifth of it.
    expect(Math.abs(mirrored.length - 2000)).toBeLessThan(4 * Math.sqrt(1000));
    expect(Math.abs(mirrored.filter(({ top }) => top === 2).length - 400)).toBeLessThan(4 * Math.sqrt(400));
  });

  test('depend on the picture and the epoch, and on nothing else', () => {
    const placementOf = trainingPlacements(large, options, 0);
    const inOrder = picturesOf(100).map(placementOf);
    const backwards = picturesOf(100).reverse().map(placementOf).reverse();
    expect(backwards).toEqual(inOrder);
    expect(picturesOf(100).map(trainingPlacements(large, options, 1))).not.toEqual(inOrder);
    expect(picturesOf(100).map(trainingPlacements(large, { ...options, seed: 2 }, 0))).not.toEqual(inOrder);
  });

  test('are the centre without crops: mirrored at random, or not at all', () => {
    const centre = { top: 16, left: 16, mirrored: false };
    expect(centrePlacement(large, 224)).toEqual(centre);
    expect(picturesOf(50).map(trainingPlacements(large, { ...options, augment: 'none' }, 0))).toEqual(
      picturesOf(50).map(() => centre),
    );
    const flips = picturesOf(50).map(trainingPlacements(large, { ...options, augment: 'flip' }, 0));
    expect(flips.every(({ top, left }) => top === 16 && left === 16)).toBe(true);
    expect(new Set(flips.map(({ mirrored }) => mirrored))).toEqual(new Set([true, false]));
  });
});
