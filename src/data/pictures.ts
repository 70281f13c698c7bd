// The pictures of one split as a loader thread sees them, before crop and flip.
// Invariant: a PictureStore can be posted to a thread without copying its pixels; what only a thread needs is made from it there.

import type { PictureShape, SplitName } from './batch.ts';

/** Pictures in memory that all threads share; they may overlap (synthetic ones do). */
export interface PictureStore {
  readonly shape: PictureShape;
  readonly pixels: Uint8Array<SharedArrayBuffer>;
  /** Where each picture's H*W*C bytes begin in `pixels` [count]. */
  readonly starts: Uint32Array<SharedArrayBuffer>;
  /** Classes in 0..K-1 [count]. */
  readonly labels: Int32Array<SharedArrayBuffer>;
}

/** A dataset that was found and checked, not yet cropped. */
export interface Dataset {
  readonly name: string;
  readonly classes: readonly string[];
  readonly splits: Readonly<Record<SplitName, PictureStore>>;
  /** Training pictures that the mean and deviation are taken over, counted from the first. */
  readonly picturesForStatistics: number;
}

/** How a thread gets at pictures, be they in memory or decoded when asked for. */
export interface Pictures {
  readonly count: number;
  readonly shape: PictureShape;
  /** The pixels of a picture [H,W,C]; they are the store's own and must not be written to. */
  read(index: number): Uint8Array | Promise<Uint8Array>;
  label(index: number): number;
}

/** The pictures of a store; `read` and `label` throw RangeError on an index that the store does not have. */
export function openPictures(store: PictureStore): Pictures {
  const { shape, pixels, starts, labels } = store;
  const pictureBytes = bytesOf(shape);
  return {
    count: starts.length,
    shape,
    read: (index) => {
      const start = atIndex(starts, index);
      return pixels.subarray(start, start + pictureBytes);
    },
    label: (index) => atIndex(labels, index),
  };
}

/** Bytes of one picture. */
export function bytesOf(shape: PictureShape): number {
  return shape.height * shape.width * shape.channels;
}

/** An array of 32-bit integers in memory that threads can share, each value made from its index. */
export function sharedInt32(length: number, valueAt: (index: number) => number): Int32Array<SharedArrayBuffer> {
  const values = new Int32Array(new SharedArrayBuffer(4 * length));
  for (let i = 0; i < length; i++) values[i] = valueAt(i);
  return values;
}

/** An array of unsigned 32-bit integers in memory that threads can share, each value made from its index. */
export function sharedUint32(length: number, valueAt: (index: number) => number): Uint32Array<SharedArrayBuffer> {
  const values = new Uint32Array(new SharedArrayBuffer(4 * length));
  for (let i = 0; i < length; i++) values[i] = valueAt(i);
  return values;
}

function atIndex(values: Uint32Array | Int32Array, index: number): number {
  const value = values[index];
  if (value === undefined) throw new RangeError(`there is no picture ${String(index)}: the split has ${String(values.length)}`);
  return value;
}
