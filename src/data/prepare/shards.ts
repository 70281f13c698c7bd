// One shard of a prepared dataset: a tar of KEY.jpg and KEY.cls, then its index with where each picture lies and the exact sums of its pixels.
// Invariant: a file appears under its name when it is whole and on the disk, and the index after the tar: a shard with an index is whole. Its
// bytes follow from its pictures and the options alone.

import { createWriteStream } from 'node:fs';
import { open, readFile, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { crc32 } from 'node:zlib';
import { pack } from 'tar-stream';
import type { Pack } from 'tar-stream';
import { z } from 'zod';
import { StorageError } from '../../spec/errors.ts';
import { indexFileOf, shardIndexSchema } from '../preparedFormat.ts';
import { PixelSums } from '../statistics.ts';

const integer = z.int().min(0);

/** An index as it is written here; readers need `pictures` alone. */
const wholeIndexSchema = shardIndexSchema.extend({
  /** Of the tar. */
  bytes: integer,
  /** What could not be read, and is not in the tar. */
  bad: z.array(z.strictObject({ index: integer, name: z.string(), reason: z.string() })),
  sums: z.strictObject({ pixels: integer, values: z.array(integer).length(3), products: z.array(integer).length(9) }),
});
export type WholeIndex = z.infer<typeof wholeIndexSchema>;
export type BadEntry = WholeIndex['bad'][number];

/** A picture as it goes into a shard. */
export interface PreparedPicture {
  readonly key: string;
  readonly label: number;
  readonly jpeg: Uint8Array;
  /** RGB, for the sums. */
  readonly pixels: Uint8Array;
}

const block = 512;

/** The index of a shard that is there already; nothing where the shard or its index is missing or not whole. */
export async function findShard(path: string): Promise<WholeIndex | undefined> {
  try {
    const index = wholeIndexSchema.parse(JSON.parse(await readFile(indexFileOf(path), 'utf8')));
    return (await stat(path)).size === index.bytes ? index : undefined;
  } catch {
    return undefined;
  }
}

/** Writes a shard and its index; what the pictures throw ends it, with nothing left behind. StorageError where the disk refuses. */
export async function writeShard(path: string, pictures: AsyncIterable<PreparedPicture | BadEntry>): Promise<WholeIndex> {
  const aside = asideOf(path);
  const tar = pack();
  const written = pipeline(tar, createWriteStream(aside, { flush: true }));
  // Heard where it is awaited.
  written.catch(() => undefined);
  const sums = new PixelSums(3);
  const index: Pick<WholeIndex, 'pictures' | 'bad'> = { pictures: [], bad: [] };
  let at = 0;
  const add = async (name: string, bytes: Uint8Array): Promise<number> => {
    await Promise.race([addEntry(tar, name, bytes), written]);
    const offset = at + block;
    at = offset + Math.ceil(bytes.length / block) * block;
    return offset;
  };
  try {
    for await (const picture of pictures) {
      if ('reason' in picture) {
        index.bad.push(picture);
        continue;
      }
      const { key, label, jpeg, pixels } = picture;
      sums.add(pixels);
      const offset = await add(`${key}.jpg`, jpeg);
      await add(`${key}.cls`, Buffer.from(String(label)));
      index.pictures.push([offset, jpeg.length, label, crc32(jpeg)]);
    }
    tar.finalize();
    await written;
    const whole = { bytes: (await stat(aside)).size, bad: index.bad, sums: plainSums(sums), pictures: index.pictures };
    await rm(indexFileOf(path), { force: true });
    await appear(aside, path);
    await writeWhole(indexFileOf(path), JSON.stringify(whole));
    return whole;
  } catch (error) {
    tar.destroy();
    // Where the disk has refused, what follows from it may be heard first.
    const reason: unknown = await written.catch((writing: unknown) => writing);
    await rm(aside, { force: true });
    throw storageError(path, isOfFileSystem(reason) ? reason : error);
  }
}

/** Writes a file aside, to the disk, and gives it its name; throws StorageError. */
export async function writeWhole(path: string, text: string): Promise<void> {
  try {
    const file = await open(asideOf(path), 'w');
    try {
      await file.writeFile(`${text}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await appear(asideOf(path), path);
  } catch (error) {
    throw storageError(path, error);
  }
}

function asideOf(path: string): string {
  return `${path}.partial`;
}

async function appear(aside: string, path: string): Promise<void> {
  await rename(aside, path);
  // The name is the folder's, and goes to the disk with it.
  const folder = await open(dirname(path));
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

function addEntry(tar: Pack, name: string, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    tar.entry({ name, mtime: new Date(0), size: bytes.length }, Buffer.from(bytes), (error) => {
      if (error) reject(error);
      else resolve();
    });
  });
}

function plainSums(sums: PixelSums): WholeIndex['sums'] {
  const { pixels, values, products } = sums.exact;
  return { pixels, values: [...values], products: [...products] };
}

/** An error of the file system as a sentence; others as they are. */
function storageError(path: string, error: unknown): unknown {
  if (!isOfFileSystem(error)) return error;
  return new StorageError(`${basename(path)} could not be written into ${dirname(path)}: ${error.message}`, { cause: error });
}

function isOfFileSystem(error: unknown): error is Error {
  return error instanceof Error && 'syscall' in error;
}
