// Pictures made for a test, laid out as a dataset in memory is.

import type { PictureShape } from '../../src/data/batch.ts';
import { bytesOf, sharedInt32, sharedUint32 } from '../../src/data/pictures.ts';
import type { PictureStore } from '../../src/data/pictures.ts';

/** `count` pictures whose bytes all come from `byteAt` of their position in the store; picture i is of class i mod `classes`. */
export function memoryStore(
  shape: PictureShape,
  count: number,
  { classes = 2, byteAt = (i: number) => (i * 37 + (i >> 8)) % 256 } = {},
): PictureStore {
  const pixels = new Uint8Array(new SharedArrayBuffer(count * bytesOf(shape)));
  for (let i = 0; i < pixels.length; i++) pixels[i] = byteAt(i);
  return {
    shape,
    pixels,
    starts: sharedUint32(count, (i) => i * bytesOf(shape)),
    labels: sharedInt32(count, (i) => i % classes),
  };
}
