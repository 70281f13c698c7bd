// A dataset that `coordinator prepare` made: pictures are found by its indices, and every one is checked against its CRC when it is read.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { DataError } from '../spec/errors.ts';
import type { SplitName } from './batch.ts';
import type { DecodeRule } from './decode.ts';
import { PictureListBuilder, checkSplits } from './pictureList.ts';
import type { Dataset, EncodedStore } from './pictures.ts';
import { datasetFile, indexFileOf, preparedDatasetSchema, shardIndexSchema } from './preparedFormat.ts';

/** Opens the folder; throws DataError naming the file that is missing or wrong. */
export async function preparedFolder(folder: string, rule: DecodeRule): Promise<Dataset> {
  const { classes, mean, deviation, covariance, splits } = await readJson(join(folder, datasetFile), preparedDatasetSchema);
  const read = (split: SplitName): Promise<EncodedStore> =>
    readSplit(folder, splits[split], { rule, classCount: classes.length });
  const stores = { train: await read('train'), test: await read('test') };
  checkSplits(folder, classes, stores);
  return { name: folder, classes, splits: stores, statistics: { mean, deviation, covariance } };
}

async function readSplit(
  folder: string,
  { count, shards }: { count: number; shards: readonly string[] },
  { rule, classCount }: { rule: DecodeRule; classCount: number },
): Promise<EncodedStore> {
  const builder = new PictureListBuilder();
  for (const shard of shards) {
    const path = join(folder, indexFileOf(shard));
    const archive = builder.addArchive(join(folder, shard));
    for (const [offset, size, label, crc] of (await readJson(path, shardIndexSchema)).pictures) {
      if (label >= classCount)
        throw new DataError(`${path}: label ${String(label)}, but there are ${String(classCount)} classes`);
      builder.addPart(archive, label, { offset, size, crc });
    }
  }
  if (builder.count !== count)
    throw new DataError(
      `${folder}: its indices have ${String(builder.count)} pictures, ${datasetFile} speaks of ${String(count)}`,
    );
  return builder.build(rule);
}

async function readJson<Schema extends z.ZodType>(path: string, schema: Schema): Promise<z.infer<Schema>> {
  try {
    return schema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (error) {
    const what =
      error instanceof z.ZodError ? z.prettifyError(error).slice(0, 300) : error instanceof Error ? error.message : String(error);
    throw new DataError(`${path} could not be read: ${what.replace(/\s*\n\s*/g, ' ')}`, { cause: error });
  }
}
