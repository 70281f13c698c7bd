// The pictures of one split as a loader thread sees them, before crop and flip: pixels in memory, or files to be decoded when asked for.
// Invariant: a store can be posted to a thread without copying what is large in it; what only a thread needs is made from it there.

import { closeSync, fstatSync, openSync, read, readFileSync, readSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import { crc32 } from 'node:zlib';
import { DataError } from '../spec/errors.ts';
import { cutPicture } from './augment.ts';
import type { Placement } from './augment.ts';
import type { PictureShape, PixelStatistics, SplitName } from './batch.ts';
import { cutJpeg } from './cutJpeg.ts';
import { BadPictureError, decodePicture, maxPictureBytes } from './decode.ts';
import type { DecodeRule } from './decode.ts';
import { pathAt } from './pathList.ts';
import type { PathList } from './pathList.ts';

/** Pictures in memory that all threads share; they may overlap (synthetic ones do). */
export interface PictureStore {
  readonly shape: PictureShape;
  readonly pixels: Uint8Array<SharedArrayBuffer>;
  /** Where each picture's H*W*C bytes begin in `pixels` [count]. */
  readonly starts: Uint32Array<SharedArrayBuffer>;
  /** Classes in 0..K-1 [count]. */
  readonly labels: Int32Array<SharedArrayBuffer>;
}

/** Pictures in files: one a file, or many in the shards of an archive. */
export interface EncodedStore {
  /** After decoding. */
  readonly shape: PictureShape;
  readonly rule: DecodeRule;
  readonly files: PathList;
  /** Which file each picture is in [count]. */
  readonly fileOf: Uint32Array<SharedArrayBuffer>;
  readonly labels: Int32Array<SharedArrayBuffer>;
  /** Where each picture lies in its file [count]; none where a file is a picture. */
  readonly places?: {
    readonly offsets: Float64Array<SharedArrayBuffer>;
    readonly sizes: Uint32Array<SharedArrayBuffer>;
    /** CRC-32 of each picture's bytes, where an index has it. */
    readonly crcs?: Uint32Array<SharedArrayBuffer>;
  };
}

export type SplitStore = PictureStore | EncodedStore;

/** A dataset that was found and checked, not yet cropped. */
export interface Dataset<Store extends SplitStore = SplitStore> {
  readonly name: string;
  readonly classes: readonly string[];
  readonly splits: Readonly<Record<SplitName, Store>>;
  /** Of the training pictures: known already, or to be taken over so many of them. */
  readonly statistics: PixelStatistics | { readonly pictures: number };
}

/** How a thread gets at pictures, be they in memory or decoded when asked for. */
export interface Pictures {
  readonly count: number;
  readonly shape: PictureShape;
  /**
   * Cuts the window at `placement` out of a picture into `out` [H,W,C] of shape `cropped`, with zeros where it leaves the picture;
   * throws BadPictureError where the picture cannot be decoded, DataError where it is gone.
   */
  cut(index: number, placement: Placement, out: Uint8Array, cropped: PictureShape): void | Promise<void>;
  label(index: number): number;
  /** For messages: the picture's file. */
  name(index: number): string;
}

/** The pictures of a store; `cut` and `label` throw RangeError on an index that the store does not have. */
export function openPictures(store: SplitStore): Pictures {
  const { shape, labels } = store;
  const common = { count: labels.length, shape, label: (index: number) => atIndex(labels, index) };
  if ('pixels' in store) {
    const pictureBytes = bytesOf(shape);
    return {
      ...common,
      name: (index) => `picture ${String(index)}`,
      cut: (index, placement, out, cropped) => {
        const start = atIndex(store.starts, index);
        cutPicture(store.pixels.subarray(start, start + pictureBytes), shape, placement, out, cropped);
      },
    };
  }
  const reader = openEncoded(store);
  return {
    ...common,
    name: (index) => reader.name(index),
    cut: (index, placement, out, cropped) => {
      const bytes = reader.bytesSync(index);
      if (cutJpeg(bytes, store.rule, placement, out, cropped)) return;
      return decodePicture(bytes, store.rule).then((picture) => {
        cutPicture(picture, shape, placement, out, cropped);
      });
    },
  };
}

/** How the bytes of pictures are got at, not yet decoded. */
export interface EncodedPictures {
  name(index: number): string;
  /** Throws DataError where the file is gone, BadPictureError where these cannot be the bytes of a picture. */
  bytes(index: number): Promise<Uint8Array>;
  /** The same for a thread that has nothing else to do: a small file takes 15 us of the processor, and 240 us by way of Node's pool. */
  bytesSync(index: number): Uint8Array;
}

/** The files behind a store. */
export function openEncoded(store: EncodedStore): EncodedPictures {
  return store.places === undefined ? wholeFiles(store) : partsOfFiles(store, store.places);
}

function wholeFiles({ files, fileOf }: EncodedStore): EncodedPictures {
  const name = (index: number): string => pathAt(files, atIndex(fileOf, index));
  return {
    name,
    bytes: (index) => readPictureBytes(name(index)),
    bytesSync: (index) => readPictureBytesSync(name(index)),
  };
}

/** The bytes of a picture's file; throws BadPictureError where they are too many, DataError where it cannot be read. */
export async function readPictureBytes(path: string): Promise<Uint8Array> {
  try {
    checkSize((await stat(path)).size);
    return await readFile(path);
  } catch (error) {
    throw unreadable(path, error);
  }
}

function readPictureBytesSync(path: string): Uint8Array {
  let file: number | undefined;
  try {
    file = openSync(path, 'r');
    checkSize(fstatSync(file).size);
    return readFileSync(file);
  } catch (error) {
    throw unreadable(path, error);
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

const readPart = promisify(read);

/** Archives stay open: there are hundreds of them at most, with thousands of pictures each. */
function partsOfFiles(
  { files, fileOf }: EncodedStore,
  { offsets, sizes, crcs }: NonNullable<EncodedStore['places']>,
): EncodedPictures {
  const opened = new Map<number, number>();
  const archiveOf = (index: number): number => {
    const file = atIndex(fileOf, index);
    const archive = opened.get(file) ?? openSync(pathAt(files, file), 'r');
    opened.set(file, archive);
    return archive;
  };
  const bufferFor = (index: number): Buffer => {
    const size = sizes[index] ?? 0;
    checkSize(size);
    return Buffer.alloc(size);
  };
  const checked = (index: number, bytes: Buffer, bytesRead: number): Buffer => {
    if (bytesRead < bytes.length) throw new Error('it ends early');
    if (crcs !== undefined && crc32(bytes) !== crcs[index])
      throw new BadPictureError('its bytes are not those that were written (CRC)');
    return bytes;
  };
  return {
    name: (index) => `${pathAt(files, atIndex(fileOf, index))} at byte ${String(offsets[index])}`,
    bytes: async (index) => {
      try {
        const bytes = bufferFor(index);
        const { bytesRead } = await readPart(archiveOf(index), bytes, 0, bytes.length, offsets[index] ?? 0);
        return checked(index, bytes, bytesRead);
      } catch (error) {
        throw unreadable(pathAt(files, atIndex(fileOf, index)), error);
      }
    },
    bytesSync: (index) => {
      try {
        const bytes = bufferFor(index);
        return checked(index, bytes, readSync(archiveOf(index), bytes, 0, bytes.length, offsets[index] ?? 0));
      } catch (error) {
        throw unreadable(pathAt(files, atIndex(fileOf, index)), error);
      }
    },
  };
}

function checkSize(bytes: number): void {
  if (bytes > maxPictureBytes) throw new BadPictureError(`${String(bytes)} bytes are too many for a picture`);
}

/** What is wrong with the file, where it is not the picture. */
function unreadable(path: string, error: unknown): Error {
  if (error instanceof BadPictureError || error instanceof RangeError) return error;
  return new DataError(`${path} could not be read: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
}

/** The pictures of a store whose indices are given, in that order. */
export function selectPictures(store: SplitStore, indices: readonly number[] | Uint32Array): SplitStore {
  const int32 = (values: Int32Array): Int32Array<SharedArrayBuffer> =>
    sharedInt32(indices.length, (i) => atIndex(values, indices[i] ?? -1));
  const uint32 = (values: Uint32Array): Uint32Array<SharedArrayBuffer> =>
    sharedUint32(indices.length, (i) => atIndex(values, indices[i] ?? -1));
  const labels = int32(store.labels);
  if ('pixels' in store) return { ...store, labels, starts: uint32(store.starts) };
  const { places } = store;
  const selected = { ...store, labels, fileOf: uint32(store.fileOf) };
  if (places === undefined) return selected;
  const offsets = new Float64Array(new SharedArrayBuffer(8 * indices.length));
  for (const [i, index] of indices.entries()) offsets[i] = places.offsets[index] ?? 0;
  const crcs = places.crcs === undefined ? {} : { crcs: uint32(places.crcs) };
  return { ...selected, places: { offsets, sizes: uint32(places.sizes), ...crcs } };
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
