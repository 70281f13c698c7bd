// Makes a dataset ready for training, once: every picture at the size that training reads it at, shuffled, in shards (docs/prepare.md).
// Invariant: what is made follows from the source and the options alone, so that a preparation that was ended at any moment goes on where it
// was, to the same bytes; dataset.json is there when everything is.

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { DataError, StorageError, UsageError } from '../../spec/errors.ts';
import { randomKey, randomPermutation } from '../../spec/random.ts';
import { BadPictures } from '../badPictures.ts';
import type { SplitName } from '../batch.ts';
import { BadPictureError, shortSideJpeg } from '../decode.ts';
import { pathAt } from '../pathList.ts';
import { openEncoded } from '../pictures.ts';
import type { Dataset, EncodedStore } from '../pictures.ts';
import { datasetFile, preparedDatasetSchema } from '../preparedFormat.ts';
import { PixelSums } from '../statistics.ts';
import { inOrder } from './inOrder.ts';
import { findShard, writeShard, writeWhole } from './shards.ts';
import type { BadEntry, PreparedPicture } from './shards.ts';

export interface PrepareOptions {
  readonly out: string;
  /** Pixels of every picture's shorter side. */
  readonly shortSide: number;
  /** Of the JPEGs, 1..100. */
  readonly quality: number;
  /** Pictures a shard. */
  readonly shardSize: number;
  /** Pictures in hand at once. */
  readonly jobs: number;
  readonly onBadImage: 'skip' | 'fail';
  readonly log: (line: string) => void;
  readonly onProgress: (done: number, total: number) => void;
  /** Ends it between two pictures. */
  readonly signal: AbortSignal;
}

const prepareFile = 'prepare.json';
/** A lock that the caller may hold. */
const lockFile = 'run.lock';
const prefixes = { train: 'train', test: 'val' } as const;

class Stopped extends Error {}

/** Prepares, or goes on with it; false where the signal ended it. Throws UsageError where the folder holds something else, DataError on bad data, StorageError. */
export async function prepareDataset(source: Dataset<EncodedStore>, options: PrepareOptions): Promise<boolean> {
  await claimFolder(source, options);
  const counts = { train: source.splits.train.labels.length, test: source.splits.test.labels.length };
  const badPictures = new BadPictures(options.onBadImage, { counts, log: options.log, isReplaced: false });
  const sums = new PixelSums(3);
  const made = { train: { count: 0, shards: [] as string[] }, test: { count: 0, shards: [] as string[] } };
  let done = 0;
  try {
    for (const split of ['train', 'test'] as const) {
      const order = randomPermutation(randomKey(0, 'order', `prepare ${split}`), counts[split]);
      for (let start = 0; start < order.length; start += options.shardSize) {
        const shard = `${prefixes[split]}-${String(start / options.shardSize).padStart(6, '0')}.tar`;
        const path = join(options.out, shard);
        const indices = order.subarray(start, start + options.shardSize);
        const found = await findShard(path);
        for (const bad of found?.bad ?? []) badPictures.take(split, bad);
        const onPicture = (bad?: BadEntry): void => {
          if (options.signal.aborted) throw new Stopped();
          if (bad !== undefined) badPictures.take(split, bad);
          options.onProgress(++done, counts.train + counts.test);
        };
        const index = found ?? (await writeShard(path, picturesOf(source.splits[split], { indices, start, options, onPicture })));
        if (found !== undefined) done += indices.length;
        if (split === 'train') sums.addExact(index.sums);
        made[split].count += index.pictures.length;
        made[split].shards.push(shard);
      }
    }
  } catch (error) {
    if (error instanceof Stopped) return false;
    throw error;
  }
  const { mean, deviation, covariance } = sums.statistics;
  const dataset = preparedDatasetSchema.parse({
    format: 'crosstower-dataset',
    version: 1,
    classes: source.classes,
    mean,
    deviation,
    covariance,
    shortSide: options.shortSide,
    splits: made,
  });
  await writeWhole(join(options.out, datasetFile), JSON.stringify(dataset, null, 2));
  return true;
}

/** The pictures of a shard, or why there is none; their keys are their places in the order. */
async function* picturesOf(
  store: EncodedStore,
  {
    indices,
    start,
    options,
    onPicture,
  }: { indices: Uint32Array; start: number; options: PrepareOptions; onPicture: (bad?: BadEntry) => void },
): AsyncGenerator<PreparedPicture | BadEntry> {
  const encoded = openEncoded(store);
  const read = async (index: number, i: number): Promise<PreparedPicture | BadEntry> => {
    try {
      const picture = await shortSideJpeg(await encoded.bytes(index), options);
      return { key: String(start + i).padStart(8, '0'), label: store.labels[index] ?? 0, ...picture };
    } catch (error) {
      if (error instanceof BadPictureError) return { index, name: encoded.name(index), reason: error.message };
      throw error;
    }
  };
  for await (const picture of inOrder(indices, options.jobs, read)) {
    onPicture('reason' in picture ? picture : undefined);
    yield picture;
  }
}

/** Makes the folder this preparation's, or finds that it is. */
async function claimFolder(source: Dataset<EncodedStore>, { out, shortSide, quality, shardSize }: PrepareOptions): Promise<void> {
  const mine: Readonly<Record<string, string | number>> = {
    format: 'crosstower-prepare',
    version: 1,
    'short-side': shortSide,
    quality,
    'shard-size': shardSize,
    'training pictures': source.splits.train.labels.length,
    'test pictures': source.splits.test.labels.length,
    'SHA-256 of names and labels': sourceHash(source),
  };
  const path = join(out, prepareFile);
  if (existsSync(path)) {
    const before = await readClaim(path);
    const other = Object.keys(mine).find((key) => before[key] !== mine[key]);
    if (other === undefined) return;
    throw new UsageError(
      `${out} was prepared with ${other} ${String(before[other])}, not ${String(mine[other])}: the same source and options go on with it, others need another --out`,
    );
  }
  const entries = await mkdir(out, { recursive: true })
    .then(() => readdir(out))
    .catch((error: unknown) => {
      throw new StorageError(`${out} could not be made: ${error instanceof Error ? error.message : String(error)}`, {
        cause: error,
      });
    });
  if (entries.some((name) => name !== lockFile && name !== `${prepareFile}.partial`))
    throw new UsageError(`${out} holds other files and no ${prepareFile}: name a new folder with --out`);
  await writeWhole(path, JSON.stringify(mine, null, 2));
}

async function readClaim(path: string): Promise<Readonly<Record<string, unknown>>> {
  try {
    const value: unknown = JSON.parse(await readFile(path, 'utf8'));
    if (typeof value === 'object' && value !== null) return { ...value };
    throw new Error('it is no object');
  } catch (error) {
    throw new DataError(`${path} could not be read: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

/** Tells sources apart by the names, places and labels of their pictures; where the source's folder lies does not count. */
function sourceHash({ name, classes, splits }: Dataset<EncodedStore>): string {
  const hash = createHash('sha256').update(JSON.stringify(classes));
  for (const split of ['train', 'test'] satisfies SplitName[]) {
    const { files, fileOf, labels, places } = splits[split];
    for (let file = 0; file < files.ends.length; file++) {
      const path = pathAt(files, file);
      hash.update(`\0${path.startsWith(name) ? path.slice(name.length) : path}`);
    }
    for (const numbers of [fileOf, labels, places?.offsets, places?.sizes])
      if (numbers !== undefined) hash.update(new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength));
  }
  return hash.digest('hex');
}
