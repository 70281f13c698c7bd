// Opens the dataset that a run's config names: the one entrance to this folder.
// Invariant: a DataSource that is handed out is whole (every file read and checked), and its shape is what leaves it, after the crop.

import type { RunConfig } from '../spec/config.ts';
import { UsageError } from '../spec/errors.ts';
import { croppedShape } from './augment.ts';
import type { DataSource, PictureShape } from './batch.ts';
import { fashionMnistClasses, fashionMnistFolder, fashionMnistSources } from './fashionMnist.ts';
import { readIdxFolder } from './idxFolder.ts';
import { Loader, loaderThreadFile } from './loader.ts';
import type { Dataset, PictureStore } from './pictures.ts';
import { pixelStatistics } from './statistics.ts';
import { parseSyntheticSpec, syntheticDataset } from './synthetic.ts';

export type DataConfig = Pick<RunConfig, 'data' | 'limitTrain' | 'seed' | 'augment' | 'mean'>;

export interface OpenDataOptions {
  /** The network's input size: larger pictures are cropped to it, smaller ones keep their size. */
  readonly cropSize: number;
  /** Threads that crop and flip, 1 or more. */
  readonly threads: number;
  /** Where datasets are kept once fetched (see cacheFolder). */
  readonly cacheFolder: string;
  /** Told what is being fetched. */
  readonly log: (line: string) => void;
}

/** Opens a dataset; throws DataError naming the folder or file that is missing or wrong, UsageError on a config that does not fit it. */
export async function openData(config: DataConfig, options: OpenDataOptions): Promise<DataSource> {
  const found = await findDataset(config, options);
  const train = firstPictures(found.splits.train, config.limitTrain ?? Infinity);
  const test = found.splits.test;
  const shape = croppedShape(train.shape, options.cropSize);
  const statistics = pixelStatistics(train, Math.min(found.picturesForStatistics, train.starts.length));
  const mean = config.mean === undefined ? statistics.mean : givenMean(config.mean, shape);
  const augment = { seed: config.seed, augment: config.augment, cropSize: options.cropSize };
  const loader = new Loader({ splits: { train, test }, augment }, { threads: options.threads, threadFile: loaderThreadFile });
  return {
    name: found.name,
    classes: found.classes,
    counts: { train: train.starts.length, test: test.starts.length },
    shape,
    mean,
    deviation: statistics.deviation,
    load: (request) => loader.load(request),
    close: () => loader.close(),
  };
}

async function findDataset({ data, seed }: DataConfig, { cacheFolder, log }: OpenDataOptions): Promise<Dataset> {
  const synthetic = parseSyntheticSpec(data);
  if (synthetic !== undefined) return syntheticDataset(synthetic, seed);
  const isFashionMnist = data === 'fashion-mnist';
  const folder = isFashionMnist ? await fashionMnistFolder(cacheFolder, { sources: fashionMnistSources(), log }) : data;
  const { splits, classCount } = await readIdxFolder(folder);
  return {
    name: data,
    classes: isFashionMnist ? fashionMnistClasses : Array.from({ length: classCount }, (_, label) => String(label)),
    splits,
    picturesForStatistics: splits.train.starts.length,
  };
}

function firstPictures(store: PictureStore, count: number): PictureStore {
  return { ...store, starts: store.starts.subarray(0, count), labels: store.labels.subarray(0, count) };
}

/** A mean colour from the config, for pictures of one or three channels. */
function givenMean(mean: readonly [number, number, number], { channels }: PictureShape): readonly number[] {
  if (channels === 3) return mean;
  const [red, green, blue] = mean;
  if (red !== green || green !== blue) throw new UsageError(`mean: the pictures are grey, but ${mean.join(',')} is a colour`);
  return [red];
}
