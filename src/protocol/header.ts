// A message's header as bytes: msgpack, at most 64 KiB, of plain data only.
// Invariant: before msgpackr sees a byte, a scan has followed the whole value: known types only (no records, extensions, binaries), few
// and shallow, ending exactly where the bytes end. What msgpackr can be talked into by hostile input is thereby out of reach.

import { Packr, Unpackr } from 'msgpackr';
import type { Options } from 'msgpackr';
import type { z } from 'zod';
import { protocolVersion } from './messages.ts';
import { ProtocolError, VersionMismatchError, quoted } from './protocolError.ts';

export const maxHeaderBytes = 64 * 1024;
/** A header is nested three deep (header, config, lrSteps) and holds about a hundred values. */
const maxDepth = 6;
const maxValues = 1024;

const plainData: Options & { skipValues: unknown[] } = {
  useRecords: false,
  mapsAsObjects: true,
  structuredClone: false,
  moreTypes: false,
  int64AsType: 'number',
  /** A field that is undefined is a field that is not there. */
  skipValues: [undefined],
};

/** The header as msgpack; throws where it would be refused on arrival, which is a bug of the sender. */
export function encodeHeader(header: object): Uint8Array {
  // A packer of one use: a shared one hands out views of its pool, and what it keeps between calls is nobody's business.
  const bytes = new Packr(plainData).pack(header);
  if (bytes.length > maxHeaderBytes)
    throw new Error(`a header of ${String(bytes.length)} bytes: at most ${String(maxHeaderBytes)}`);
  return bytes;
}

/** Reads a header and checks it against its schema; throws ProtocolError, or VersionMismatchError where only the version is other. */
export function decodeHeader<Schema extends z.ZodType>(bytes: Uint8Array, schema: Schema): z.infer<Schema> {
  scanPlainData(bytes);
  let header: unknown;
  try {
    header = new Unpackr(plainData).unpack(bytes);
  } catch (error) {
    throw new ProtocolError('a header that is not msgpack', { cause: error });
  }
  const theirs = versionOf(header);
  if (theirs !== undefined && theirs !== protocolVersion) throw new VersionMismatchError(theirs);
  const result = schema.safeParse(header);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new ProtocolError(
    `a header that the protocol does not know: ${quoted(`${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`)}`,
  );
}

function versionOf(header: unknown): number | undefined {
  if (typeof header !== 'object' || header === null || !('version' in header)) return undefined;
  return Number.isSafeInteger(header.version) ? (header.version as number) : undefined;
}

/** Bytes that follow the token of a number: float32, float64, uint8 to uint64, int8 to int64. */
const numberBytes: ReadonlyMap<number, number> = new Map([
  [0xca, 4],
  [0xcb, 8],
  [0xcc, 1],
  [0xcd, 2],
  [0xce, 4],
  [0xcf, 8],
  [0xd0, 1],
  [0xd1, 2],
  [0xd2, 4],
  [0xd3, 8],
]);

/** Follows one msgpack value of plain data to its end; throws ProtocolError on anything else, in one pass and without allocating. */
function scanPlainData(bytes: Uint8Array): void {
  if (bytes.length > maxHeaderBytes)
    throw new ProtocolError(`a header of ${String(bytes.length)} bytes: at most ${String(maxHeaderBytes)}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const depths: number[] = [];
  let position = 0;
  let values = 0;
  /** Values of the innermost collection that are still to come. */
  let open = 1;

  const left = (): number => bytes.length - position;
  const need = (count: number): void => {
    if (count > left()) throw new ProtocolError('a header that ends too early');
  };
  const readLength = (size: 1 | 2 | 4): number => {
    need(size);
    const length = size === 1 ? view.getUint8(position) : size === 2 ? view.getUint16(position) : view.getUint32(position);
    position += size;
    return length;
  };
  const skip = (count: number): void => {
    need(count);
    position += count;
  };
  const enter = (count: number): void => {
    need(count);
    if (depths.length >= maxDepth) throw new ProtocolError(`a header nested more than ${String(maxDepth)} deep`);
    depths.push(open);
    open = count;
  };

  for (;;) {
    while (open === 0) {
      const outer = depths.pop();
      if (outer === undefined) {
        if (left() !== 0) throw new ProtocolError(`a header with ${String(left())} bytes behind its end`);
        return;
      }
      open = outer;
    }
    open--;
    if (++values > maxValues) throw new ProtocolError(`a header of more than ${String(maxValues)} values`);
    need(1);
    const token = view.getUint8(position++);
    if (token < 0x80 || token >= 0xe0) continue; // a small integer
    if (token < 0x90) enter(2 * (token & 0x0f));
    else if (token < 0xa0) enter(token & 0x0f);
    else if (token < 0xc0) skip(token & 0x1f);
    else if (token === 0xc0 || token === 0xc2 || token === 0xc3)
      continue; // null, false, true
    else if (token >= 0xd9 && token <= 0xdb) skip(readLength(token === 0xd9 ? 1 : token === 0xda ? 2 : 4));
    else if (token === 0xdc || token === 0xdd) enter(readLength(token === 0xdc ? 2 : 4));
    else if (token === 0xde || token === 0xdf) enter(2 * readLength(token === 0xde ? 2 : 4));
    else {
      const size = numberBytes.get(token);
      if (size === undefined)
        throw new ProtocolError(`a header with the msgpack type 0x${token.toString(16)}, which is not plain data`);
      skip(size);
    }
  }
}
