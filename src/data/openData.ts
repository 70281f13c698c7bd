// Opens the dataset that a run's config names: the one entrance to this folder.
// Invariant: a DataSource that is handed out has been found and checked, and its shape is what leaves it, after the crop.

import type { RunConfig } from '../spec/config.ts';
import { UsageError } from '../spec/errors.ts';
import { croppedShape } from './augment.ts';
import { BadPictures } from './badPictures.ts';
import type { DataSource, PictureShape, PixelStatistics } from './batch.ts';
import { colourOffsets } from './colour.ts';
import { whyNoCutJpeg } from './cutJpeg.ts';
import type { DecodeRule } from './decode.ts';
import { findDataset } from './findDataset.ts';
import { Loader, loaderThreadFile } from './loader.ts';
import { selectPictures } from './pictures.ts';
import type { Dataset, SplitStore } from './pictures.ts';
import { PixelSums, pixelStatistics } from './statistics.ts';

export type DataConfig = Pick<
  RunConfig,
  'data' | 'limitTrain' | 'seed' | 'augment' | 'mean' | 'valFraction' | 'onBadImage' | 'pcaColour' | 'resizeSize' | 'cropMode'
>;

export interface OpenDataOptions {
  /** The network's input size: larger pictures are cropped to it, smaller ones keep their size. */
  readonly cropSize: number;
  /** Threads that decode, crop and flip, 1 or more. */
  readonly threads: number;
  /** Where datasets are kept once fetched (see cacheFolder). */
  readonly cacheFolder: string;
  /** Told what is being fetched, and what cannot be read. */
  readonly log: (line: string) => void;
}

/** Opens a dataset; throws DataError naming the folder or file that is missing or wrong, UsageError on a config that does not fit it. */
export async function openData(config: DataConfig, options: OpenDataOptions): Promise<DataSource> {
  const { cropSize, threads, log } = options;
  const found = await findDataset(config, { ...options, rule: decodeRule(config, cropSize) });
  const train = limited(found.splits.train, config.limitTrain ?? Infinity);
  const { test } = found.splits;
  const counts = { train: train.labels.length, test: test.labels.length };
  const shape = croppedShape(train.shape, cropSize);
  const augment = { seed: config.seed, augment: config.augment, cropSize };
  const badPictures = new BadPictures(config.onBadImage, { counts, log });
  const whySlow = 'pixels' in train ? undefined : whyNoCutJpeg();
  if (whySlow !== undefined) log(`JPEG pictures are decoded by sharp alone, at a quarter of the speed: ${whySlow}`);
  const loader = new Loader({ splits: { train, test }, augment }, { threads, threadFile: loaderThreadFile, badPictures });
  try {
    const statistics = await statisticsOf(found, train, loader);
    const mean = config.mean === undefined ? statistics.mean : givenMean(config.mean, shape);
    const hasColour = shape.channels === 3 && config.pcaColour > 0 && config.augment !== 'none';
    const colourOf = hasColour ? colourOffsets(statistics.covariance, { seed: config.seed, sd: config.pcaColour }) : undefined;
    return {
      name: found.name,
      classes: found.classes,
      counts,
      shape,
      mean,
      deviation: statistics.deviation,
      load: async (request) => {
        const batch = await loader.load(request);
        if (colourOf === undefined || request.split === 'test' || request.view !== undefined) return batch;
        return { ...batch, colour: colourOf(request.epoch, request.indices) };
      },
      release: (batch) => {
        loader.release(batch);
      },
      close: () => loader.close(),
    };
  } catch (error) {
    await loader.close();
    throw error;
  }
}

/** How picture files become squares: 256 for a crop of 224, and in proportion for others; the crop itself where all of it is wanted. */
export function decodeRule({ resizeSize, cropMode }: Pick<RunConfig, 'resizeSize' | 'cropMode'>, cropSize: number): DecodeRule {
  const size = resizeSize ?? (cropMode === 'squash' ? cropSize : Math.round((cropSize * 8) / 7));
  if (size < cropSize) throw new UsageError(`resize-size: ${String(size)} is smaller than the crop of ${String(cropSize)}`);
  return { size, cropMode };
}

/** The first pictures in memory; of files, which lie class by class, as many evenly spread over all. */
function limited(store: SplitStore, count: number): SplitStore {
  const total = store.labels.length;
  if (count >= total) return store;
  if ('pixels' in store) return { ...store, starts: store.starts.subarray(0, count), labels: store.labels.subarray(0, count) };
  return selectPictures(store, evenlySpread(total, count));
}

function evenlySpread(total: number, count: number): Uint32Array {
  return Uint32Array.from({ length: count }, (_, i) => Math.floor((i * total) / count));
}

/** Pictures of a batch that are decoded for statistics. */
const statisticsBatch = 32;

async function statisticsOf({ statistics }: Dataset, train: SplitStore, loader: Loader): Promise<PixelStatistics> {
  if (!('pictures' in statistics)) return statistics;
  const count = Math.min(statistics.pictures, train.labels.length);
  if ('pixels' in train) return pixelStatistics(train, count);
  const sums = new PixelSums(3);
  const indices = evenlySpread(train.labels.length, count);
  const batches = Array.from({ length: Math.ceil(count / statisticsBatch) }, (_, i) =>
    loader.load({ split: 'train', epoch: 0, view: 0, indices: indices.subarray(i * statisticsBatch, (i + 1) * statisticsBatch) }),
  );
  for (const { pixels } of await Promise.all(batches)) sums.add(pixels);
  return sums.statistics;
}

/** A mean colour from the config, for pictures of one or three channels. */
function givenMean(mean: readonly [number, number, number], { channels }: PictureShape): readonly number[] {
  if (channels === 3) return mean;
  const [red, green, blue] = mean;
  if (red !== green || green !== blue) throw new UsageError(`mean: the pictures are grey, but ${mean.join(',')} is a colour`);
  return [red];
}
