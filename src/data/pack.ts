// Makes one batch: read each picture, cut it, lay it beside the others. Runs inside a loader thread; tests call it directly.
// Invariant: the batch is a pure function of the pictures, the options and the request.

import type { Batch, BatchRequest } from './batch.ts';
import { centrePlacement, croppedShape, cutPicture, trainingPlacements } from './augment.ts';
import type { AugmentOptions } from './augment.ts';
import { bytesOf } from './pictures.ts';
import type { Pictures } from './pictures.ts';

/** Packs the requested pictures in order; throws RangeError on an index that the split does not have. */
export async function packBatch(
  pictures: Pictures,
  options: AugmentOptions,
  request: BatchRequest,
): Promise<Batch & { readonly pixels: Uint8Array<ArrayBuffer>; readonly labels: Int32Array<ArrayBuffer> }> {
  const shape = croppedShape(pictures.shape, options.cropSize);
  const centre = centrePlacement(pictures.shape, options.cropSize);
  const placementOf = request.split === 'train' ? trainingPlacements(pictures.shape, options, request.epoch) : () => centre;
  const pictureBytes = bytesOf(shape);
  const pixels = new Uint8Array(request.indices.length * pictureBytes);
  const labels = new Int32Array(request.indices.length);
  for (const [position, index] of request.indices.entries()) {
    const picture = await pictures.read(index);
    const out = pixels.subarray(position * pictureBytes, (position + 1) * pictureBytes);
    cutPicture(picture, pictures.shape, placementOf(index), out, shape);
    labels[position] = pictures.label(index);
  }
  return { pixels, labels, shape };
}
