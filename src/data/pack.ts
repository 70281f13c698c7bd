// Makes one batch: a window of each picture, one beside the other. Runs inside a loader thread; tests call it directly.
// Invariant: the batch is a pure function of the pictures, the options and the request; a picture that cannot be decoded is replaced by the
// next one of the split that can.

import type { Batch, BatchRequest, PictureShape } from './batch.ts';
import { centrePlacement, croppedShape, trainingPlacements, viewPlacement } from './augment.ts';
import type { AugmentOptions } from './augment.ts';
import { DataError } from '../spec/errors.ts';
import { BadPictureError } from './decode.ts';
import { bytesOf } from './pictures.ts';
import type { Pictures } from './pictures.ts';

/** A picture that could not be decoded. */
export interface BadPicture {
  readonly index: number;
  readonly name: string;
  readonly reason: string;
}

export interface PackedBatch extends Batch {
  readonly labels: Int32Array<ArrayBuffer>;
  readonly bad: readonly BadPicture[];
}

/** Bytes of the pixels of a batch of `count` pictures. */
export function batchBytes(stored: PictureShape, { cropSize }: Pick<AugmentOptions, 'cropSize'>, count: number): number {
  return count * bytesOf(croppedShape(stored, cropSize));
}

/**
 * Packs the requested pictures in order into `memory` of `batchBytes`, whatever that held before; throws RangeError on an index that the split
 * does not have, DataError on a file that is gone.
 */
export async function packBatch(
  pictures: Pictures,
  options: AugmentOptions,
  request: BatchRequest,
  memory: ArrayBufferLike,
): Promise<PackedBatch> {
  const shape = croppedShape(pictures.shape, options.cropSize);
  const placementOf = placements(pictures, options, request);
  const pictureBytes = bytesOf(shape);
  const pixels = new Uint8Array(memory);
  const labels = new Int32Array(request.indices.length);
  const bad: BadPicture[] = [];
  for (const [position, index] of request.indices.entries()) {
    const out = pixels.subarray(position * pictureBytes, (position + 1) * pictureBytes);
    const placement = placementOf(index);
    const from = await firstSound(pictures, index, bad, (picture) => pictures.cut(picture, placement, out, shape));
    labels[position] = pictures.label(from);
  }
  return { pixels, labels, shape, bad };
}

function placements({ shape }: Pictures, options: AugmentOptions, { split, epoch, view }: BatchRequest) {
  if (split === 'train' && view === undefined) return trainingPlacements(shape, options, epoch);
  const placement = view === undefined ? centrePlacement(shape, options.cropSize) : viewPlacement(shape, options.cropSize, view);
  return () => placement;
}

/** Tries that a split of damaged pictures is given before it is given up; the loader counts what was bad. */
const maxTries = 1000;

/** Which picture was cut: the one at `index`, or the next that is sound. */
async function firstSound(
  pictures: Pictures,
  index: number,
  bad: BadPicture[],
  cut: (picture: number) => void | Promise<void>,
): Promise<number> {
  for (let tries = 0; ; tries++) {
    const from = tries === 0 ? index : (index + tries) % pictures.count;
    try {
      await cut(from);
      return from;
    } catch (error) {
      if (!(error instanceof BadPictureError)) throw error;
      if (tries >= Math.min(maxTries, pictures.count - 1))
        throw new DataError(
          `${pictures.name(from)} cannot be read as a picture, and none can stand in for it: ${error.message}`,
          { cause: error },
        );
      bad.push({ index: from, name: pictures.name(from), reason: error.message });
    }
  }
}
