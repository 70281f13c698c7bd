// What `coordinator prepare` makes and training reads: dataset.json, and tar shards with an index beside each (docs/prepare.md).

import { z } from 'zod';

const count = z.int().min(0);
const rgb = z.tuple([z.number(), z.number(), z.number()]);
/** A name in the folder itself. */
const shardName = z.string().regex(/^[a-z0-9][a-z0-9._-]*\.tar$/);
const split = z.strictObject({ count, shards: z.array(shardName) });

export const datasetFile = 'dataset.json';

export const preparedDatasetSchema = z.strictObject({
  format: z.literal('crosstower-dataset'),
  version: z.literal(1),
  classes: z.array(z.string()).min(2),
  /** Of the training pictures' RGB values, in 0..255. */
  mean: rgb,
  deviation: rgb,
  covariance: z.tuple([rgb, rgb, rgb]),
  /** Pixels of every picture's shorter side. */
  shortSide: z.int().min(1),
  splits: z.strictObject({ train: split, test: split }),
});

/** The index of `NAME.tar` is `NAME.json`. */
export function indexFileOf(shard: string): string {
  return shard.replace(/\.tar$/, '.json');
}

export const shardIndexSchema = z.looseObject({
  /** Offset and size of each picture's bytes in the shard, its label, and its CRC-32. */
  pictures: z.array(z.tuple([count, count, count, z.int().min(0).max(0xffff_ffff)])),
});
