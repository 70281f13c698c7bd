// Picture files outside any dataset, made to look as the pictures that a network was trained on: for `predict`.
// Invariant: a file is brought to what a picture of the data is before the crop, in size and channels, so that the same ten views are cut.
// H, W, C are rows, columns and channels.

import type { RunConfig } from '../spec/config.ts';
import { DataError } from '../spec/errors.ts';
import { croppedShape, cutPicture, viewPlacement } from './augment.ts';
import type { Batch, PictureShape } from './batch.ts';
import { BadPictureError, decodePicture } from './decode.ts';
import type { DecodeRule } from './decode.ts';
import { decodeRule } from './openData.ts';
import { bytesOf, readPictureBytes } from './pictures.ts';

/** What files are brought to. */
export interface PictureForm {
  /** Before the crop. */
  readonly stored: PictureShape;
  readonly rule: DecodeRule;
  readonly cropSize: number;
}

/** The form of a network's pictures, which were `shown` to it after the crop; throws DataError where they are no squares. */
export function pictureForm(
  config: Pick<RunConfig, 'resizeSize' | 'cropMode'>,
  shown: PictureShape,
  cropSize: number,
): PictureForm {
  const { height, width, channels } = shown;
  if (height !== width)
    throw new DataError(
      `the network was trained on pictures of ${String(height)}x${String(width)}: files can only be made squares`,
    );
  // Pictures smaller than the crop are the data's own size (28x28 grey ones, say); others were cut from squares of the rule's size.
  const rule = height < cropSize ? { size: height, cropMode: config.cropMode } : decodeRule(config, cropSize);
  return { stored: { height: rule.size, width: rule.size, channels }, rule, cropSize };
}

/** The pixels of a file [H,W,C], not yet cropped; throws BadPictureError or DataError saying what is wrong with it. */
export async function readPictureFile(path: string, { stored, rule }: PictureForm): Promise<Uint8Array> {
  try {
    const pixels = await decodePicture(await readPictureBytes(path), rule);
    return stored.channels === 3 ? pixels : luminance(pixels);
  } catch (error) {
    if (error instanceof BadPictureError)
      throw new DataError(`${path} cannot be read as a picture: ${error.message}`, { cause: error });
    throw error;
  }
}

/** One view (augment.ts) of some pictures, as a batch without labels (all are 0). */
export function viewBatch(pictures: readonly Uint8Array[], { stored, cropSize }: PictureForm, view: number): Batch {
  const shape = croppedShape(stored, cropSize);
  const placement = viewPlacement(stored, cropSize, view);
  const size = bytesOf(shape);
  const pixels = new Uint8Array(pictures.length * size);
  for (const [i, picture] of pictures.entries()) {
    cutPicture(picture, stored, placement, pixels.subarray(i * size, (i + 1) * size), shape);
  }
  return { pixels, labels: new Int32Array(pictures.length), shape };
}

/** RGB pixels as grey ones, weighted as the eye does (ITU-R BT.601); what was grey keeps its values. */
function luminance(rgb: Uint8Array): Uint8Array {
  return Uint8Array.from({ length: rgb.length / 3 }, (_, i) =>
    Math.round(0.299 * (rgb[3 * i] ?? 0) + 0.587 * (rgb[3 * i + 1] ?? 0) + 0.114 * (rgb[3 * i + 2] ?? 0)),
  );
}
