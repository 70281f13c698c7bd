// JPEG pictures that need no resizing, decoded by libjpeg-turbo: the addon that set-up compiles (native/cutJpeg.cc, docs/adr/0018-jpeg-decoder.md).
// Invariant: the pixels are those that decodePicture and cutPicture make, to the byte; whatever is out of the ordinary is left to them,
// and so is everything where the addon is missing.

import { fileURLToPath } from 'node:url';
import { packageRoot } from '../spec/packageRoot.ts';
import type { Placement } from './augment.ts';
import type { PictureShape } from './batch.ts';
import type { DecodeRule } from './decode.ts';
import { maxPixels } from './decode.ts';

interface Addon {
  cut(
    jpeg: Uint8Array,
    out: Uint8Array,
    side: number,
    isWhole: number,
    top: number,
    left: number,
    height: number,
    width: number,
    isMirrored: number,
  ): boolean;
}

/** The longest that the format knows, in pixels. */
const maxJpegSide = 65_535;

const addonFile = new URL('node_modules/.crosstower/jpeg/cutJpeg.node', packageRoot());
let loaded: Addon | Error | undefined;

/** Loaded once in a thread; an error where set-up could not make it, or it does not fit this machine. */
function addon(): Addon | Error {
  if (loaded !== undefined) return loaded;
  const module: { exports: unknown } = { exports: {} };
  try {
    process.dlopen(module, fileURLToPath(addonFile));
    loaded = module.exports as Addon;
  } catch (error) {
    loaded = error instanceof Error ? error : new Error(String(error));
  }
  return loaded;
}

/** Why all pictures are left to sharp here; undefined where JPEG pictures are not. */
export function whyNoCutJpeg(): string | undefined {
  const found = addon();
  return found instanceof Error ? found.message : undefined;
}

/**
 * Writes the window of a JPEG at `placement` in the square of `rule` into `out` [H,W,3] of shape `cropped`; false where it did not, and then
 * `out` holds anything: pictures that are not ordinary JPEGs of that size, and windows that begin in the padding.
 */
export function cutJpeg(
  bytes: Uint8Array,
  { size, cropMode }: DecodeRule,
  { top, left, mirrored }: Placement,
  out: Uint8Array,
  { height, width }: PictureShape,
): boolean {
  // The limit on pixels is sharp's to tell of.
  if (size * maxJpegSide > maxPixels) return false;
  if (top < 0 || left < 0 || top + height > size || left + width > size) return false;
  // Whether a file is cut short must not depend on the rows that a crop wants: one that does not end as a JPEG does is left to sharp.
  if (bytes.at(-2) !== 0xff || bytes.at(-1) !== 0xd9) return false;
  const found = addon();
  if (found instanceof Error) return false;
  return found.cut(bytes, out, size, cropMode === 'squash' ? 1 : 0, top, left, height, width, mirrored ? 1 : 0);
}
