// From the bytes of a JPEG, PNG or WebP file to a square of RGB pixels, as the paper makes them (section 2): the shorter side brought to the
// size, then the middle cut out. Whatever the file's colours are, what leaves is 8-bit sRGB without alpha, the right way up.
// Invariant: only these three formats are ever decoded, told by how a file begins, and only up to the limits below.

import sharp from 'sharp';
import type { OutputInfo, Sharp } from 'sharp';

/** How pictures become squares. */
export interface DecodeRule {
  /** Side of the square. */
  readonly size: number;
  /** Keep the middle, or squeeze the whole picture into the square. */
  readonly cropMode: 'center' | 'squash';
}

/** A picture that cannot be read; the data around it may be sound. */
export class BadPictureError extends Error {}

/** A small PNG can name a picture of billions of pixels. */
export const maxPixels = 40_000_000;
export const maxPictureBytes = 64 * 1024 * 1024;

let isRestricted = false;

/** sharp's settings are the process's: set when the first picture is decoded. */
function restrict(): void {
  if (isRestricted) return;
  isRestricted = true;
  sharp.block({ operation: ['VipsForeignLoad'] });
  sharp.unblock({ operation: ['VipsForeignLoadJpeg', 'VipsForeignLoadPng', 'VipsForeignLoadWebp'] });
  // One picture at a time a thread, and none is asked for twice.
  sharp.concurrency(1);
  sharp.cache(false);
}

/** RGB pixels [size,size,3]; throws BadPictureError where the bytes are no picture, or are damaged in a way that shows. */
export async function decodePicture(bytes: Uint8Array, { size, cropMode }: DecodeRule): Promise<Uint8Array> {
  return decoding(bytes, async (picture) => {
    const { data, info } = await toRgb(picture.resize(size, size, { fit: cropMode === 'center' ? 'cover' : 'fill', kernel }));
    if (data.length !== size * size * 3) throw new Error(`it decodes to ${String(info.channels)} channels`);
    return data;
  });
}

/** A picture whose shorter side was brought to `shortSide`: RGB pixels [H,W,3] and the JPEG of them; throws as decodePicture does. */
export async function shortSideJpeg(
  bytes: Uint8Array,
  { shortSide, quality }: { shortSide: number; quality: number },
): Promise<{ pixels: Uint8Array; jpeg: Uint8Array }> {
  return decoding(bytes, async (picture) => {
    const { width, height } = await picture.metadata();
    // A line of a picture would become a very long one.
    if ((shortSide ** 2 * Math.max(width, height)) / Math.min(width, height) > maxPixels)
      throw new Error(`${String(width)}x${String(height)} is too long and thin`);
    const { data, info } = await toRgb(picture.resize(shortSide, shortSide, { fit: 'outside', kernel }));
    if (info.channels !== 3) throw new Error(`it decodes to ${String(info.channels)} channels`);
    const raw = { width: info.width, height: info.height, channels: 3 as const };
    return { pixels: data, jpeg: await sharp(data, { raw }).jpeg({ quality }).toBuffer() };
  });
}

const kernel = 'linear';

/** Checks what can be told before decoding, and turns what fails in it into a BadPictureError. */
async function decoding<T>(bytes: Uint8Array, use: (picture: Sharp) => Promise<T>): Promise<T> {
  restrict();
  if (bytes.length > maxPictureBytes) throw new BadPictureError(`${String(bytes.length)} bytes are too many for a picture`);
  if (!isKnownFormat(bytes)) throw new BadPictureError('neither JPEG nor PNG nor WebP');
  try {
    return await use(sharp(bytes, { limitInputPixels: maxPixels, failOn: 'truncated', sequentialRead: true }).autoOrient());
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new BadPictureError(message.replace(/\s*\n\s*/g, ', ').slice(0, 200), { cause: error });
  }
}

function toRgb(picture: Sharp): Promise<{ data: Buffer; info: OutputInfo }> {
  return picture.toColourspace('srgb').removeAlpha().raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
}

function isKnownFormat(bytes: Uint8Array): boolean {
  const start = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(12, bytes.length)).toString('latin1');
  return start.startsWith('\xff\xd8\xff') || start.startsWith('\x89PNG') || (start.startsWith('RIFF') && start.endsWith('WEBP'));
}
