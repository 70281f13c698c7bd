// The synsets of ILSVRC2012's meta.mat: which class each number of the ground truth means. Reads what that file needs of MATLAB's level 5
// format ("MAT-File Format", The MathWorks): one struct array `synsets` of numbers and texts, compressed or not, little-endian.
// Invariant: no length in the file is believed beyond the bytes that are there, nothing recurses, and anything wrong is a DataError.

import { inflateSync } from 'node:zlib';
import { DataError } from '../../spec/errors.ts';

export interface Synset {
  /** ILSVRC2012_ID, which the ground truth speaks of. */
  readonly id: number;
  /** WordNet's, `n` and eight digits. */
  readonly wnid: string;
  readonly words: string;
}

/** Data types of elements. */
const types = {
  int8: 1,
  uint8: 2,
  int16: 3,
  uint16: 4,
  int32: 5,
  uint32: 6,
  double: 9,
  matrix: 14,
  compressed: 15,
  utf8: 16,
  utf16: 17,
};
/** Classes of arrays. */
const classes = { struct: 2, char: 4 };
const headerBytes = 128;
const maxInflatedBytes = 64 * 1024 * 1024;
const maxFields = 100;
const maxSynsets = 100_000;

interface Element {
  readonly type: number;
  readonly data: Buffer;
}

/** The synsets of a meta.mat; throws DataError where it is none. */
export function readSynsets(file: Buffer, path: string): Synset[] {
  try {
    return synsetsOf(file);
  } catch (error) {
    throw new DataError(
      `${path} could not be read as a MATLAB 5 file with synsets: ${error instanceof Error ? error.message : String(error)}`,
      { cause: error },
    );
  }
}

function synsetsOf(file: Buffer): Synset[] {
  if (file.length < headerBytes || file.toString('latin1', 126, 128) !== 'IM') throw new Error('its header is not that of one');
  for (const element of elementsOf(file.subarray(headerBytes))) {
    const matrix = element.type === types.compressed ? inflated(element.data) : element;
    if (matrix.type !== types.matrix) continue;
    const parts = elementsOf(matrix.data);
    const { arrayClass, count, name } = arrayHead(parts);
    if (name === 'synsets' && arrayClass === classes.struct) return [...structsOf(parts, count)];
  }
  throw new Error("there is no struct array 'synsets'");
}

function inflated(bytes: Buffer): Element {
  return nextOf(elementsOf(inflateSync(bytes, { maxOutputLength: maxInflatedBytes })));
}

function* structsOf(parts: Iterator<Element, undefined>, count: number): Generator<Synset> {
  if (count > maxSynsets) throw new Error(`${String(count)} synsets`);
  const nameBytes = numbersOf(nextOf(parts))[0] ?? 0;
  const names = nextOf(parts).data;
  if (!(nameBytes >= 1) || names.length / nameBytes > maxFields) throw new Error('its fields have no names');
  const fields = Array.from({ length: Math.floor(names.length / nameBytes) }, (_, i) =>
    textUpToZero(names.subarray(i * nameBytes, (i + 1) * nameBytes)),
  );
  for (let i = 0; i < count; i++) {
    const values = new Map(fields.map((field) => [field, nextOf(parts)]));
    const id = numbersOf(valueOf(values.get('ILSVRC2012_ID')))[0];
    const wnid = textOf(valueOf(values.get('WNID')));
    if (id === undefined || !Number.isSafeInteger(id) || !/^n\d{8}$/.test(wnid))
      throw new Error(`synset ${String(i)} has no ILSVRC2012_ID or no WNID`);
    yield { id, wnid, words: textOf(valueOf(values.get('words'))) };
  }
}

/** The flags, dimensions and name that every array begins with. */
function arrayHead(parts: Iterator<Element, undefined>): { arrayClass: number; count: number; name: string } {
  const arrayClass = nextOf(parts).data[0] ?? 0;
  const count = numbersOf(nextOf(parts)).reduce((product, size) => product * size, 1);
  return { arrayClass, count, name: textUpToZero(nextOf(parts).data) };
}

/** What a field holds: the data of its array. */
function valueOf(field: Element | undefined): Element {
  if (field?.type !== types.matrix) throw new Error('a field of its synsets is missing');
  const parts = elementsOf(field.data);
  arrayHead(parts);
  return nextOf(parts);
}

function nextOf(parts: Iterator<Element, undefined>): Element {
  const { done, value } = parts.next();
  if (done === true) throw new Error('it ends early');
  return value;
}

/** Elements one after another: a tag of type and length, or both and up to four bytes in eight. */
function* elementsOf(bytes: Buffer): Generator<Element, undefined> {
  for (let at = 0; at + 8 <= bytes.length;) {
    const word = bytes.readUInt32LE(at);
    const isSmall = word >>> 16 !== 0;
    const [type, size, start] = isSmall ? [word & 0xffff, word >>> 16, at + 4] : [word, bytes.readUInt32LE(at + 4), at + 8];
    if (size > (isSmall ? 4 : bytes.length - start)) throw new Error(`an element of ${String(size)} bytes does not fit`);
    yield { type, data: bytes.subarray(start, start + size) };
    at = isSmall ? at + 8 : start + (type === types.compressed ? size : Math.ceil(size / 8) * 8);
  }
  return undefined;
}

/** Numbers, in whichever type they were stored: small ones shrink. */
function numbersOf({ type, data }: Element): number[] {
  const width = { [types.int16]: 2, [types.uint16]: 2, [types.int32]: 4, [types.uint32]: 4, [types.double]: 8 }[type] ?? 1;
  // Only a few are ever wanted: an identity, or dimensions.
  return Array.from({ length: Math.min(8, Math.floor(data.length / width)) }, (_, i) => {
    if (type === types.double) return data.readDoubleLE(i * width);
    const isSigned = type === types.int8 || type === types.int16 || type === types.int32;
    return isSigned ? data.readIntLE(i * width, width) : data.readUIntLE(i * width, width);
  });
}

function textOf({ type, data }: Element): string {
  return data.toString(type === types.utf8 ? 'utf8' : type === types.uint16 || type === types.utf16 ? 'utf16le' : 'latin1');
}

function textUpToZero(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('latin1', 0, end < 0 ? bytes.length : end);
}
