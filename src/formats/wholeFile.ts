// Files that appear under their name only when they are whole: written aside piece by piece, synced, renamed.
// Invariant: a failure leaves neither half a file nor a temporary one, and whatever had the name before keeps it.

import { createHash } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { StorageError } from '../spec/errors.ts';

/** A file as it was written. */
export interface WrittenFile {
  readonly bytes: number;
  readonly sha256: string;
}

/** What is hashed and written in one go, so that a large tensor does not hold up the event loop. */
const pieceBytes = 1 << 22;

/** Writes what `fill` hands to `write`, in that order, to `path`; throws StorageError where the file system refuses or `fill` fails. */
export async function writeWholeFile(
  path: string,
  fill: (write: (data: Uint8Array) => Promise<void>) => Promise<void>,
): Promise<WrittenFile> {
  const temporary = `${path}.tmp-${String(process.pid)}`;
  const hash = createHash('sha256');
  let bytes = 0;
  try {
    const file = await open(temporary, 'wx');
    try {
      await fill(async (data) => {
        for (let start = 0; start < data.length; start += pieceBytes) {
          const piece = data.subarray(start, start + pieceBytes);
          await file.writeFile(piece);
          hash.update(piece);
          bytes += piece.length;
        }
      });
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    return { bytes, sha256: hash.digest('hex') };
  } catch (error) {
    await rm(temporary, { force: true });
    if (error instanceof Error && 'exitCode' in error) throw error;
    throw new StorageError(`${path} could not be written: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}

/** The bytes of an array of floats, which it shares. */
export function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
