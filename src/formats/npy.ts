// NumPy's .npy files, versions 1 to 3: a header in the words of a Python dict, then numbers, or a pickle where the type is object.
// Source: NumPy's description of the format (numpy.lib.format).

import { DataError } from '../spec/errors.ts';
import { sizeOf } from '../spec/layout.ts';
import { PickledArray, itemsOf, textOf, unpickle } from './pickle.ts';
import type { Value } from './pickle.ts';

/** Numbers of any rank as fp32, row-major. */
export interface ArrayValues {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

const magic = Buffer.from('\x93NUMPY', 'latin1');
const maxHeaderBytes = 64 * 1024;
const maxRank = 8;

/** Whether bytes begin as a .npy file does. */
export function isNpy(bytes: Uint8Array): boolean {
  return Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, magic.length)).equals(magic);
}

/** An array of numbers, or what a single pickled object holds; throws DataError on anything else. */
export function readNpy(bytes: Uint8Array): ArrayValues | { readonly object: Value } {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (!isNpy(buffer) || buffer.length < 12) throw new DataError('not a .npy file');
  const isShort = buffer[6] === 1;
  const headerBytes = isShort ? buffer.readUInt16LE(8) : buffer.readUInt32LE(8);
  const start = (isShort ? 10 : 12) + headerBytes;
  if (headerBytes > maxHeaderBytes || start > buffer.length) throw new DataError('a .npy file whose header does not fit');
  const header = buffer.toString('latin1', isShort ? 10 : 12, start);
  const descr = /'descr':\s*'([^']{1,16})'/.exec(header)?.[1];
  const isFortran = /'fortran_order':\s*(True|False)/.exec(header)?.[1];
  const dimensions = /'shape':\s*\(([\d,\sL]*)\)/.exec(header)?.[1];
  if (descr === undefined || isFortran === undefined || dimensions === undefined)
    throw new DataError(`a .npy file with a header that says something else: ${header.slice(0, 80).trim()}`);
  const shape = dimensions
    .split(',')
    .filter((text) => text.trim() !== '')
    .map((text) => Number.parseInt(text, 10));
  const data = buffer.subarray(start);
  if (descr !== '|O') return numbers({ dtype: descr, shape, isFortran: isFortran === 'True', data });
  if (sizeOf(shape) !== 1) throw new DataError('a .npy file with an array of many objects: one dict is read');
  const array = unpickle(data);
  if (!(array instanceof PickledArray)) throw new DataError('a .npy file whose pickle holds no array');
  return { object: array.objects[0] ?? null };
}

const readers: Readonly<
  Record<string, { readonly bytes: number; readonly read: (data: DataView, at: number, little: boolean) => number }>
> = {
  f4: { bytes: 4, read: (data, at, little) => data.getFloat32(at, little) },
  f8: { bytes: 8, read: (data, at, little) => data.getFloat64(at, little) },
  f2: { bytes: 2, read: (data, at, little) => halfToNumber(data.getUint16(at, little)) },
};

function numbers({ dtype, shape, isFortran, data }: Pick<PickledArray, 'dtype' | 'shape' | 'isFortran' | 'data'>): ArrayValues {
  const reader = readers[dtype.slice(1)];
  if (reader === undefined || !/^[<>=|]/.test(dtype))
    throw new DataError(`an array of type ${dtype}: floating point of 2, 4 or 8 bytes is read`);
  if (shape.length > maxRank) throw new DataError(`an array of ${String(shape.length)} axes`);
  const count = sizeOf(shape);
  if (!Number.isSafeInteger(count) || data.length !== count * reader.bytes) {
    throw new DataError(`an array of shape [${shape.join(', ')}] in ${String(data.length)} bytes`);
  }
  const little = !dtype.startsWith('>');
  let values: Float32Array;
  if (dtype.slice(1) === 'f4' && little) {
    // A copy: the bytes of a file start anywhere, floats at multiples of four.
    values = new Float32Array(new Uint8Array(data).buffer);
  } else {
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    values = Float32Array.from({ length: count }, (_, i) => reader.read(view, i * reader.bytes, little));
  }
  return { shape, values: isFortran ? fromColumns(values, shape) : values };
}

/** Column-major values in row-major order. */
function fromColumns(values: Float32Array, shape: readonly number[]): Float32Array {
  const out = new Float32Array(values.length);
  const index = shape.map(() => 0);
  for (const value of values) {
    let row = 0;
    for (const [axis, size] of shape.entries()) row = row * size + (index[axis] ?? 0);
    out[row] = value;
    // The first axis runs fastest.
    for (let axis = 0; axis < shape.length; axis++) {
      index[axis] = (index[axis] ?? 0) + 1;
      if (index[axis] !== shape[axis]) break;
      index[axis] = 0;
    }
  }
  return out;
}

function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/**
 * The arrays of a dict of layers, as bvlc_alexnet.npy holds them: layer -> [weights, biases], or layer -> {'weights', 'biases'}. Weights are told
 * from biases by their rank. Named `conv1.weight`, `conv1.bias`. Throws DataError where the object is something else, or says the same bytes so
 * often that it would grow beyond `maxBytes`.
 */
export function layerArrays(object: Value, maxBytes: number): Map<string, ArrayValues> {
  if (!(object instanceof Map)) throw new DataError('a pickle that holds no dict of layers');
  const found = new Map<string, ArrayValues>();
  let bytes = 0;
  for (const [key, value] of object) {
    const layer = textOf(key);
    const arrays = value instanceof Map ? [...value.values()] : value instanceof PickledArray ? value.objects : itemsOf(value);
    if (arrays === undefined) throw new DataError(`${layer}: no list or dict of arrays`);
    for (const array of arrays) {
      if (!(array instanceof PickledArray)) throw new DataError(`${layer}: holds something that is no array`);
      bytes += array.data.length;
      if (bytes > maxBytes) throw new DataError('a pickle whose arrays are larger than itself');
      const name = `${layer}.${array.shape.length > 1 ? 'weight' : 'bias'}`;
      if (found.has(name)) throw new DataError(`${layer}: two arrays that could be ${name}`);
      found.set(name, numbers(array));
    }
  }
  return found;
}
