// Where the members of a tar archive lie, read from its headers alone: the data between them is skipped, so that a shard of a gigabyte takes
// milliseconds. Knows ustar, GNU long names and pax paths (POSIX.1-2001). Names are keys here, and never become paths.
// Invariant: every step goes forward by at least one block, whatever a header claims, and no more than the file has is ever read.

import { DataError } from '../spec/errors.ts';

export interface TarMember {
  readonly name: string;
  /** Of its data, from the start of the archive. */
  readonly offset: number;
  readonly size: number;
}

/** A file, or what is read like one. */
interface Readable {
  read(buffer: Buffer, offset: number, length: number, position: number): Promise<unknown>;
}

const block = 512;
/** A long name or a pax header. */
const maxNameBytes = 64 * 1024;

/** The regular files of an archive that is `length` bytes long from `start`; throws DataError where a header is none. */
export async function* tarMembers(
  file: Readable,
  { start, length, path }: { start: number; length: number; path: string },
): AsyncGenerator<TarMember> {
  const header = Buffer.alloc(block);
  let longName: string | undefined;
  for (let at = start; at + block <= start + length;) {
    await file.read(header, 0, block, at);
    if (header.every((byte) => byte === 0)) return;
    if (!isHeader(header)) throw new DataError(`${path}: no tar header at byte ${String(at)}`);
    const size = numberAt(header, 124, 12);
    const offset = at + block;
    if (!Number.isSafeInteger(size) || size < 0 || offset + size > start + length)
      throw new DataError(`${path}: a member of ${String(size)} bytes at byte ${String(at)} does not fit the archive`);
    const type = String.fromCharCode(header[156] ?? 0);
    if (type === 'L' || type === 'x') {
      if (size > maxNameBytes) throw new DataError(`${path}: a name of ${String(size)} bytes`);
      const data = Buffer.alloc(size);
      await file.read(data, 0, size, offset);
      longName = type === 'L' ? textOf(data) : (/\d+ path=(.*)\n/.exec(data.toString('utf8'))?.[1] ?? longName);
    } else {
      if (type === '0' || type === '\0') yield { name: longName ?? ustarName(header), offset, size };
      longName = undefined;
    }
    at = offset + Math.ceil(size / block) * block;
  }
}

function isHeader(header: Buffer): boolean {
  let sum = 0;
  // The checksum counts its own field as spaces.
  for (const [i, byte] of header.entries()) sum += i >= 148 && i < 156 ? 0x20 : byte;
  return numberAt(header, 148, 8) === sum;
}

function ustarName(header: Buffer): string {
  const prefix = header.toString('latin1', 257, 262) === 'ustar' ? textOf(header.subarray(345, 500)) : '';
  const name = textOf(header.subarray(0, 100));
  return prefix === '' ? name : `${prefix}/${name}`;
}

/** Octal digits, or a large number in base 256 behind a set bit. */
function numberAt(header: Buffer, at: number, length: number): number {
  const field = header.subarray(at, at + length);
  if (((field[0] ?? 0) & 0x80) !== 0)
    return field.subarray(length - 8).readBigUInt64BE() > 2n ** 53n ? NaN : Number(field.subarray(length - 8).readBigUInt64BE());
  const digits = field
    .toString('latin1')
    .replace(/[\0 ]+/g, ' ')
    .trim();
  return digits === '' ? 0 : /^[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : NaN;
}

function textOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString('utf8');
}
