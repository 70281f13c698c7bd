// NumPy's .npz files: zip archives of .npy files, one an array, stored or deflated.
// Invariant: an archive can claim what it likes: members are few, and none may grow beyond the limits below.

import { promisify } from 'node:util';
import yauzl from 'yauzl';
import type { Entry, ZipFile } from 'yauzl';
import { DataError } from '../spec/errors.ts';
import { readNpy } from './npy.ts';
import type { ArrayValues } from './npy.ts';

const maxMembers = 1000;
/** fc6 of AlexNet takes 151 MB, in double precision twice that. */
const maxMemberBytes = 1 << 30;
const maxTotalBytes = 2 ** 31;
/** Weights hardly compress at all. */
const maxRatio = 200;

/** The arrays of an archive by their names, without `.npy`; throws DataError where it is not one of numbers or is a bomb. */
export async function readNpz(path: string): Promise<Map<string, ArrayValues>> {
  const zip = await promisify<string, yauzl.Options, ZipFile>(yauzl.open)(path, { lazyEntries: true, autoClose: false }).catch(
    (error: unknown) => {
      throw new DataError(`${path} is no .npz file: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    },
  );
  try {
    if (zip.entryCount > maxMembers) throw new DataError(`${path} has ${String(zip.entryCount)} members`);
    const arrays = new Map<string, ArrayValues>();
    let total = 0;
    for await (const entry of entriesOf(zip)) {
      const { fileName, compressedSize, uncompressedSize } = entry;
      total += uncompressedSize;
      if (
        uncompressedSize > maxMemberBytes ||
        total > maxTotalBytes ||
        uncompressedSize > maxRatio * Math.max(1024, compressedSize)
      )
        throw new DataError(`${path}: ${fileName} would grow to ${String(uncompressedSize)} bytes`);
      const array = readNpy(await contentsOf(zip, entry));
      if ('object' in array) throw new DataError(`${path}: ${fileName} holds objects, not numbers`);
      arrays.set(fileName.replace(/\.npy$/, ''), array);
    }
    return arrays;
  } catch (error) {
    if (error instanceof DataError) throw error;
    throw new DataError(`${path} could not be read: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  } finally {
    zip.close();
  }
}

async function* entriesOf(zip: ZipFile): AsyncGenerator<Entry> {
  // One listener for the whole of the archive's life: an error between two entries must not be unheard.
  const failure = new Promise<never>((_, reject) => {
    zip.on('error', reject);
  });
  failure.catch(() => undefined);
  for (;;) {
    const next = new Promise<Entry | undefined>((resolve) => {
      zip.once('entry', resolve);
      zip.once('end', () => {
        resolve(undefined);
      });
    });
    zip.readEntry();
    const entry = await Promise.race([next, failure]);
    zip.removeAllListeners('entry').removeAllListeners('end');
    if (entry === undefined) return;
    yield entry;
  }
}

/** yauzl itself stops a stream that grows beyond the size its entry names. */
async function contentsOf(zip: ZipFile, entry: Entry): Promise<Uint8Array> {
  const stream = await new Promise<NodeJS.ReadableStream>((resolve, reject) => {
    zip.openReadStream(entry, (error, opened) => {
      if (error === null) resolve(opened);
      else reject(error);
    });
  });
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
