// A folder of pictures, a folder a class: `root/train/CLASS/*.jpg` and `root/val/CLASS/...`, or `root/CLASS/*.jpg` alone, which is split by name.
// Classes are the folders' names in the order of their UTF-16 code units, as in other tools.

import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { DataError } from '../spec/errors.ts';
import type { SplitName } from './batch.ts';
import type { DecodeRule } from './decode.ts';
import { PictureListBuilder, checkSplits, splitByName } from './pictureList.ts';
import type { Dataset, EncodedStore } from './pictures.ts';

export interface FileDataOptions {
  readonly rule: DecodeRule;
  /** Share of the pictures for testing where the data has no split of its own. */
  readonly valFraction: number;
}

/** Training pictures that the mean and covariance are taken over, where files must be decoded for it. */
export const picturesForStatistics = 512;

const pictureEnding = /\.(jpe?g|png|webp)$/i;
const testFolders = ['val', 'test', 'valid', 'validation'];

/** Whether a file's name says that it is a picture. */
export function isPictureName(name: string): boolean {
  return pictureEnding.test(name);
}

/** Whether a folder looks like one of pictures: it holds folders. */
export async function isImageFolder(folder: string): Promise<boolean> {
  return (await subfolders(folder)).length > 0;
}

/** Lists an image folder; throws DataError naming what is missing. */
export async function imageFolder(root: string, { rule, valFraction }: FileDataOptions): Promise<Dataset<EncodedStore>> {
  const names = await subfolders(root);
  const hasTrain = names.includes('train');
  const testFolder = hasTrain ? testFolders.find((name) => names.includes(name)) : undefined;
  const trainRoot = hasTrain ? join(root, 'train') : root;
  const classes = hasTrain ? await subfolders(trainRoot) : names;
  const builders = { train: new PictureListBuilder(), test: new PictureListBuilder() };
  for (const [label, name] of classes.entries()) {
    for (const path of await pictureFiles(trainRoot, name)) {
      const split: SplitName = testFolder === undefined ? splitByName(path, valFraction) : 'train';
      builders[split].addFile(join(trainRoot, path), label);
    }
  }
  if (testFolder !== undefined) {
    const testRoot = join(root, testFolder);
    for (const name of await subfolders(testRoot)) {
      const label = classes.indexOf(name);
      if (label < 0) throw new DataError(`${join(testRoot, name)}: no class of that name in ${trainRoot}`);
      for (const path of await pictureFiles(testRoot, name)) builders.test.addFile(join(testRoot, path), label);
    }
  }
  const splits = { train: builders.train.build(rule), test: builders.test.build(rule) };
  checkSplits(root, classes, splits);
  return { name: root, classes, splits, statistics: { pictures: Math.min(picturesForStatistics, builders.train.count) } };
}

async function subfolders(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((error: unknown) => {
    throw new DataError(`there is no data folder ${folder}`, { cause: error });
  });
  const names: string[] = [];
  for (const entry of entries) {
    if (entry.name.startsWith('.')) continue;
    // A link to a folder is a folder.
    const isFolder = entry.isSymbolicLink()
      ? await stat(join(folder, entry.name)).then(
          (found) => found.isDirectory(),
          () => false,
        )
      : entry.isDirectory();
    if (isFolder) names.push(entry.name);
  }
  return names.sort();
}

/** The pictures of a class and of folders in it, relative to `root`, in a fixed order. */
async function pictureFiles(root: string, name: string): Promise<string[]> {
  const files = await readdir(join(root, name), { recursive: true }).catch((error: unknown) => {
    throw new DataError(`${join(root, name)} could not be read: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  });
  return files
    .filter(isPictureName)
    .sort()
    .map((file) => join(name, file));
}
