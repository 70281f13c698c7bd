// The pictures of one split as a loader thread sees them, before crop and flip: pixels in memory, or files to be decoded when asked for.
// Invariant: a store can be posted to a thread without copying what is large in it; what only a thread needs is made from it there.

import { open, readFile, stat } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { DataError } from '../spec/errors.ts';
import type { PictureShape, PixelStatistics, SplitName } from './batch.ts';
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
  /** The pixels of a picture [H,W,C], which must not be written to; BadPictureError where it cannot be decoded, DataError where it is gone. */
  read(index: number): Uint8Array | Promise<Uint8Array>;
  label(index: number): number;
  /** For messages: the picture's file. */
  name(index: number): string;
}

/** The pictures of a store; `read` and `label` throw RangeError on an index that the store does not have. */
export function openPictures(store: SplitStore): Pictures {
  const { shape, labels } = store;
  const common = { count: labels.length, shape, label: (index: number) => atIndex(labels, index) };
  if ('pixels' in store) {
    const pictureBytes = bytesOf(shape);
    return {
      ...common,
      name: (index) => `picture ${String(index)}`,
      read: (index) => {
        const start = atIndex(store.starts, index);
        return store.pixels.subarray(start, start + pictureBytes);
      },
    };
  }
  const reader = openEncoded(store);
  return {
    ...common,
    name: (index) => reader.name(index),
    read: async (index) => decodePicture(await reader.bytes(index), store.rule),
  };
}

/** How the bytes of pictures are got at, not yet decoded. */
export interface EncodedPictures {
  name(index: number): string;
  /** Throws DataError where the file is gone, BadPictureError where these cannot be the bytes of a picture. */
  bytes(index: number): Promise<Uint8Array>;
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
  };
}

/** The bytes of a picture's file; throws BadPictureError where they are too many, DataError where it cannot be read. */
export async function readPictureBytes(path: string): Promise<Uint8Array> {
  try {
    const { size } = await stat(path);
    if (size > maxPictureBytes) throw new BadPictureError(`${String(size)} bytes are too many for a picture`);
    return await readFile(path);
  } catch (error) {
    throw error instanceof BadPictureError ? error : unreadable(path, error);
  }
}

/** Archives stay open: there are hundreds of them at most, with thousands of pictures each. */
function partsOfFiles(
  { files, fileOf }: EncodedStore,
  { offsets, sizes, crcs }: NonNullable<EncodedStore['places']>,
): EncodedPictures {
  const handles = new Map<number, Promise<FileHandle>>();
  const handleOf = (file: number): Promise<FileHandle> => {
    const opened = handles.get(file) ?? open(pathAt(files, file));
    handles.set(file, opened);
    return opened;
  };
  return {
    name: (index) => `${pathAt(files, atIndex(fileOf, index))} at byte ${String(offsets[index])}`,
    bytes: async (index) => {
      const file = atIndex(fileOf, index);
      const size = sizes[index] ?? 0;
      if (size > maxPictureBytes) throw new BadPictureError(`${String(size)} bytes are too many for a picture`);
      const bytes = Buffer.alloc(size);
      try {
        const { bytesRead } = await (await handleOf(file)).read(bytes, 0, size, offsets[index] ?? 0);
        if (bytesRead < size) throw new Error('it ends early');
      } catch (error) {
        throw unreadable(pathAt(files, file), error);
      }
      if (crcs !== undefined && crc32(bytes) !== crcs[index])
        throw new BadPictureError('its bytes are not those that were written (CRC)');
      return bytes;
    },
  };
}

function unreadable(path: string, error: unknown): DataError {
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
