// Which kind of data `--data` means: by a prefix (`folder:`, `list:`, `tar:`, `prepared:`, `idx:`, `cifar:`), by its name, or by looking.

import { readdir, stat } from 'node:fs/promises';
import type { RunConfig } from '../spec/config.ts';
import { DataError } from '../spec/errors.ts';
import { cifarFolder, isCifarFolder } from './cifar.ts';
import type { DecodeRule } from './decode.ts';
import { fashionMnistClasses, fashionMnistFolder, fashionMnistSources } from './fashionMnist.ts';
import { readIdxFolder } from './idxFolder.ts';
import { imageFolder, isImageFolder } from './imageFolder.ts';
import type { Dataset, PictureStore } from './pictures.ts';
import { preparedFolder } from './preparedFolder.ts';
import { datasetFile } from './preparedFormat.ts';
import { parseSyntheticSpec, syntheticDataset } from './synthetic.ts';
import { tarShards } from './tarShards.ts';
import { listFile, textList } from './textList.ts';

const kinds = ['folder', 'list', 'tar', 'prepared', 'idx', 'cifar'] as const;
type Kind = (typeof kinds)[number];

export interface FindOptions {
  readonly rule: DecodeRule;
  /** Where datasets are kept once fetched (see cacheFolder). */
  readonly cacheFolder: string;
  /** Told what is being fetched. */
  readonly log: (line: string) => void;
}

/** Finds and checks a dataset; throws DataError naming the folder or file that is missing or wrong. */
export async function findDataset(
  { data, seed, valFraction }: Pick<RunConfig, 'data' | 'seed' | 'valFraction'>,
  { rule, cacheFolder, log }: FindOptions,
): Promise<Dataset> {
  const synthetic = parseSyntheticSpec(data);
  if (synthetic !== undefined) return syntheticDataset(synthetic, seed);
  if (data === 'fashion-mnist') {
    return idxDataset(
      await fashionMnistFolder(cacheFolder, { sources: fashionMnistSources(), log }),
      'fashion-mnist',
      fashionMnistClasses,
    );
  }
  const prefix = kinds.find((kind) => data.startsWith(`${kind}:`));
  const path = prefix === undefined ? data : data.slice(prefix.length + 1);
  const options = { rule, valFraction };
  switch (prefix ?? (await kindOf(path))) {
    case 'folder':
      return imageFolder(path, options);
    case 'list':
      return textList(path, options);
    case 'tar':
      return tarShards(path, options);
    case 'prepared':
      return preparedFolder(path, rule);
    case 'idx':
      return idxDataset(path, path);
    case 'cifar':
      return cifarFolder(path);
  }
}

async function kindOf(path: string): Promise<Kind> {
  if (path.endsWith('.tar')) return 'tar';
  const found = await stat(path).catch(() => undefined);
  if (found?.isFile() === true) return 'list';
  const names = found?.isDirectory() === true ? await readdir(path) : undefined;
  if (names === undefined) {
    throw new DataError(
      `there is no data ${path}: give a folder of pictures, a list, tar shards, a folder of IDX or CIFAR files, fashion-mnist, or synthetic[:SIZE[,CLASSES[,COUNT]]]`,
    );
  }
  if (names.includes(datasetFile)) return 'prepared';
  if (names.some((name) => name.includes('-ubyte'))) return 'idx';
  if (isCifarFolder(names)) return 'cifar';
  if (names.includes(listFile)) return 'list';
  if (await isImageFolder(path)) return 'folder';
  throw new DataError(
    `${path} holds no data that is known: no folders of pictures, no IDX files (train-images-idx3-ubyte, ...), no CIFAR files (data_batch_1.bin, ...), no ${datasetFile}`,
  );
}

async function idxDataset(folder: string, name: string, classes?: readonly string[]): Promise<Dataset<PictureStore>> {
  const { splits, classCount } = await readIdxFolder(folder);
  return {
    name,
    classes: classes ?? Array.from({ length: classCount }, (_, label) => String(label)),
    splits,
    statistics: { pictures: splits.train.starts.length },
  };
}
