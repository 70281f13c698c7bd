// Reads IDX files, the format of MNIST and its descendants: two zero bytes, a type byte, the number of dimensions, each dimension as a
// big-endian 32-bit integer, then the values. Only unsigned bytes (type 8) are read, plain or gzip, whatever the file's name says.
// Invariant: a file's own claims are checked against its size before memory is set aside, and every fault is a DataError with its name.

import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { pipeline } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { DataError } from '../spec/errors.ts';

export interface IdxArray {
  readonly dimensions: readonly number[];
  /** Row-major, in memory that threads can share. */
  readonly values: Uint8Array<SharedArrayBuffer>;
}

export interface IdxLimits {
  /** Names the file in messages. */
  readonly name: string;
  readonly dimensionCount: number;
  /** The most values that the file may claim to hold. */
  readonly maxValues: number;
}

const unsignedByteType = 8;
const gzipMagic = [0x1f, 0x8b] as const;

/** No file may hold more than 1 GiB of values. */
const maxValues = 2 ** 30;
/** Pictures compress some 2 to 10 times, and sorted labels up to deflate's limit of 1032: only the latter may go beyond this ratio. */
const maxGzipRatio = 200;
const alwaysAllowedValues = 2 ** 20;

/** Reads an IDX file of bytes with the given number of dimensions; throws DataError naming the file and what is wrong with it. */
export async function readIdx(path: string, dimensionCount: number): Promise<IdxArray> {
  try {
    const { bytes, gzip } = await inspect(path);
    const file = createReadStream(path);
    if (!gzip) return await parseIdx(file, { name: path, dimensionCount, maxValues: Math.min(bytes, maxValues) });
    const mostValues = Math.min(Math.max(bytes * maxGzipRatio, alwaysAllowedValues), maxValues);
    // The reader of `gunzip` gets the errors of both streams, and both are closed when it stops: nothing is left for the callback.
    const gunzip = pipeline(file, createGunzip(), () => undefined);
    const array = await parseIdx(gunzip, { name: path, dimensionCount, maxValues: mostValues });
    if (gunzip.bytesWritten !== bytes) throw new DataError(`${path}: bytes follow the end of the gzip stream`);
    return array;
  } catch (error) {
    if (error instanceof DataError) throw error;
    throw new DataError(`${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

/** The size of a regular file, and whether it is gzip by its first two bytes. */
async function inspect(path: string): Promise<{ bytes: number; gzip: boolean }> {
  const handle = await open(path);
  try {
    const status = await handle.stat();
    if (!status.isFile()) throw new DataError(`${path} is not a file`);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(2), 0, 2, 0);
    return { bytes: status.size, gzip: bytesRead === 2 && buffer[0] === gzipMagic[0] && buffer[1] === gzipMagic[1] };
  } finally {
    await handle.close();
  }
}

/** Parses an IDX file that arrives in chunks of any length; throws DataError where it is not what its header says. */
export async function parseIdx(chunks: AsyncIterable<Uint8Array>, limits: IdxLimits): Promise<IdxArray> {
  const header = new Uint8Array(4 + 4 * limits.dimensionCount);
  let headerFilled = 0;
  let array: IdxArray | undefined;
  let filled = 0;
  for await (const chunk of chunks) {
    let rest = chunk;
    if (array === undefined) {
      const part = chunk.subarray(0, header.length - headerFilled);
      header.set(part, headerFilled);
      headerFilled += part.length;
      if (headerFilled < header.length) continue;
      array = allocate(header, limits);
      rest = chunk.subarray(part.length);
    }
    if (filled + rest.length > array.values.length) {
      throw new DataError(`${limits.name}: more bytes than the ${String(array.values.length)} values of its header`);
    }
    array.values.set(rest, filled);
    filled += rest.length;
  }
  if (array === undefined) throw new DataError(`${limits.name}: ends after ${String(headerFilled)} bytes, inside the IDX header`);
  if (filled < array.values.length) {
    throw new DataError(
      `${limits.name}: ends after ${String(filled)} of the ${String(array.values.length)} values of its header`,
    );
  }
  return array;
}

/** Checks a header and sets the memory for its values aside. */
function allocate(header: Uint8Array, { name, dimensionCount, maxValues: most }: IdxLimits): IdxArray {
  const view = new DataView(header.buffer);
  if (view.getUint16(0) !== 0) throw new DataError(`${name}: not an IDX file (it does not start with two zero bytes)`);
  if (view.getUint8(2) !== unsignedByteType) {
    throw new DataError(`${name}: values of type ${String(view.getUint8(2))}, where only unsigned bytes (8) can be read`);
  }
  if (view.getUint8(3) !== dimensionCount) {
    throw new DataError(`${name}: ${String(view.getUint8(3))} dimensions, where ${String(dimensionCount)} were expected`);
  }
  const dimensions = Array.from({ length: dimensionCount }, (_, axis) => view.getUint32(4 + 4 * axis));
  const size = dimensions.reduce((product, length) => product * length, 1);
  if (!Number.isSafeInteger(size) || size > most) {
    throw new DataError(`${name}: claims ${dimensions.join('x')} values, more than a file of its size may hold`);
  }
  return { dimensions, values: new Uint8Array(new SharedArrayBuffer(size)) };
}
