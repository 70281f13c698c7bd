// From the bytes of a JPEG, PNG or WebP file to a square of RGB pixels, as the paper makes them (section 2): the shorter side brought to the
// size, then the middle cut out. Whatever the file's colours are, what leaves is 8-bit sRGB without alpha, the right way up.
// Invariant: only these three formats are ever decoded, told by how a file begins, and only up to the limits below.

import sharp from 'sharp';

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
const maxPixels = 40_000_000;
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
  restrict();
  if (bytes.length > maxPictureBytes) throw new BadPictureError(`${String(bytes.length)} bytes are too many for a picture`);
  if (!isKnownFormat(bytes)) throw new BadPictureError('neither JPEG nor PNG nor WebP');
  try {
    const { data, info } = await sharp(bytes, { limitInputPixels: maxPixels, failOn: 'truncated', sequentialRead: true })
      .autoOrient()
      .resize(size, size, { fit: cropMode === 'center' ? 'cover' : 'fill', kernel: 'linear' })
      .toColourspace('srgb')
      .removeAlpha()
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    if (info.channels !== 3 || data.length !== size * size * 3)
      throw new Error(`it decodes to ${String(info.channels)} channels`);
    return data;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new BadPictureError(message.replace(/\s*\n\s*/g, ', ').slice(0, 200), { cause: error });
  }
}

function isKnownFormat(bytes: Uint8Array): boolean {
  const start = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(12, bytes.length)).toString('latin1');
  return start.startsWith('\xff\xd8\xff') || start.startsWith('\x89PNG') || (start.startsWith('RIFF') && start.endsWith('WEBP'));
}
