// Random crops and mirror images (paper, section 4.1), as a placement drawn per picture and a cut that carries it out.
// Invariant: a placement is a pure function of (seed, epoch, picture index), never of the batch, the thread or the draws before it.
// H, W, C are rows, columns and channels; an axis longer than the crop is cropped, a shorter one keeps its length and is only shifted.

import type { RunConfig } from '../spec/config.ts';
import { randomBelow, randomKey } from '../spec/random.ts';
import type { RandomKey } from '../spec/random.ts';
import type { PictureShape } from './batch.ts';

export interface AugmentOptions {
  readonly seed: number;
  readonly augment: RunConfig['augment'];
  /** The network's input size: no picture leaves longer or wider. */
  readonly cropSize: number;
}

/** Where the window lies in the stored picture (negative: it begins in the zero padding), and whether it is mirrored after the cut. */
export interface Placement {
  readonly top: number;
  readonly left: number;
  readonly mirrored: boolean;
}

/** Small pictures move by up to one fourteenth of their side: 2 pixels of 28. */
const shiftsPerSide = 14;

/** The shape of what is cut from pictures of the given shape. */
export function croppedShape(stored: PictureShape, cropSize: number): PictureShape {
  return { ...stored, height: Math.min(stored.height, cropSize), width: Math.min(stored.width, cropSize) };
}

/** The middle of the picture: testing, and training without crops. */
export function centrePlacement(stored: PictureShape, cropSize: number): Placement {
  const cropped = croppedShape(stored, cropSize);
  return {
    top: Math.floor((stored.height - cropped.height) / 2),
    left: Math.floor((stored.width - cropped.width) / 2),
    mirrored: false,
  };
}

/** Views that a picture is scored from: four corners and the middle, and their mirror images (paper, section 4.1). */
export const viewCount = 10;

/** The placement of view 0..9; view 0 is the middle. */
export function viewPlacement(stored: PictureShape, cropSize: number, view: number): Placement {
  const middle = centrePlacement(stored, cropSize);
  const [rows, columns] = [stored.height, stored.width].map((side) => Math.max(0, side - cropSize)) as [number, number];
  const corners = [middle, { top: 0, left: 0 }, { top: 0, left: columns }, { top: rows, left: 0 }, { top: rows, left: columns }];
  const corner = corners[view % corners.length];
  if (corner === undefined || view >= viewCount) throw new RangeError(`there is no view ${String(view)}`);
  return { top: corner.top, left: corner.left, mirrored: view >= corners.length };
}

/** A function from a picture's index to its placement in one epoch of training. */
export function trainingPlacements(stored: PictureShape, options: AugmentOptions, epoch: number): (index: number) => Placement {
  const { seed, augment, cropSize } = options;
  const centre = centrePlacement(stored, cropSize);
  const cropKey = randomKey(seed, 'crop', '', epoch);
  const flipKey = randomKey(seed, 'flip', '', epoch);
  switch (augment) {
    case 'none':
      return () => centre;
    case 'flip':
      return (index) => ({ ...centre, mirrored: randomBelow(flipKey, index, 2) === 1 });
    case 'crop-flip':
      return (index) => ({
        top: windowStart(stored.height, cropSize, cropKey, 2 * index),
        left: windowStart(stored.width, cropSize, cropKey, 2 * index + 1),
        mirrored: randomBelow(flipKey, index, 2) === 1,
      });
  }
}

function windowStart(side: number, cropSize: number, key: RandomKey, draw: number): number {
  if (side > cropSize) return randomBelow(key, draw, side - cropSize + 1);
  const most = Math.floor(side / shiftsPerSide);
  return randomBelow(key, draw, 2 * most + 1) - most;
}

/** Cuts the window at `placement` from `picture` [stored H,W,C] into `out` [cropped H,W,C]; where it leaves the picture there are zeros. */
export function cutPicture(
  picture: Uint8Array,
  stored: PictureShape,
  placement: Placement,
  out: Uint8Array,
  cropped: PictureShape,
): void {
  const { top, left, mirrored } = placement;
  const { channels } = stored;
  const firstRow = Math.max(0, -top);
  const endRow = Math.min(cropped.height, stored.height - top);
  const firstColumn = Math.max(0, -left);
  const endColumn = Math.min(cropped.width, stored.width - left);
  const isInside = firstRow === 0 && firstColumn === 0 && endRow === cropped.height && endColumn === cropped.width;
  if (!isInside) out.fill(0);
  if (isInside && cropped.width === stored.width && !mirrored) {
    // Whole rows, one after the other: a copy each would cost several times as much.
    const start = top * stored.width * channels;
    out.set(picture.subarray(start, start + out.length));
    return;
  }
  for (let row = firstRow; row < endRow; row++) {
    const from = ((top + row) * stored.width + left + firstColumn) * channels;
    const source = picture.subarray(from, from + (endColumn - firstColumn) * channels);
    const rowStart = row * cropped.width * channels;
    if (mirrored) {
      mirrorRow(source, channels, out, rowStart + (cropped.width - endColumn) * channels);
    } else {
      out.set(source, rowStart + firstColumn * channels);
    }
  }
}

/** Writes the pixels of a row from right to left. Spelled out per channel: this loop is most of the cost of a batch. */
function mirrorRow(source: Uint8Array, channels: 1 | 3, out: Uint8Array, start: number): void {
  let to = start;
  if (channels === 1) {
    for (let from = source.length - 1; from >= 0; from--, to++) out[to] = source[from] ?? 0;
    return;
  }
  for (let from = source.length - 3; from >= 0; from -= 3, to += 3) {
    out[to] = source[from] ?? 0;
    out[to + 1] = source[from + 1] ?? 0;
    out[to + 2] = source[from + 2] ?? 0;
  }
}
