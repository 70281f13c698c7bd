// A dataset of four IDX files in one folder, as MNIST and its descendants are published: grey pictures and their labels, to train and to test.
// Invariant: what is returned is consistent: as many labels as pictures, one size, classes 0..K-1 without a gap.

import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { DataError } from '../spec/errors.ts';
import type { PictureShape, SplitName } from './batch.ts';
import { readIdx } from './idx.ts';
import { bytesOf, sharedInt32, sharedUint32 } from './pictures.ts';
import type { PictureStore } from './pictures.ts';

export interface IdxFolder {
  readonly splits: Readonly<Record<SplitName, PictureStore>>;
  /** K: one more than the largest training label. */
  readonly classCount: number;
}

interface Split {
  readonly pictures: PictureStore;
  readonly labelsPath: string;
}

const filePrefixes: Readonly<Record<SplitName, string>> = { train: 'train', test: 't10k' };

/** Reads a folder of four IDX files, plain or gzip; throws DataError naming the folder or file and what is wrong. */
export async function readIdxFolder(folder: string): Promise<IdxFolder> {
  const names = await readdir(folder).catch((error: unknown) => {
    throw new DataError(
      `there is no data folder ${folder}: give a folder of four IDX files, fashion-mnist, or synthetic[:SIZE[,CLASSES[,COUNT]]]`,
      { cause: error },
    );
  });
  const train = await readSplit(folder, names, 'train');
  const test = await readSplit(folder, names, 'test');
  const [trainShape, testShape] = [train.pictures.shape, test.pictures.shape];
  if (trainShape.height !== testShape.height || trainShape.width !== testShape.width) {
    throw new DataError(
      `${folder}: the training pictures are ${sizeText(trainShape)} pixels, the test pictures ${sizeText(testShape)}`,
    );
  }
  const classCount = countClasses(train);
  const stray = test.pictures.labels.findIndex((label) => label >= classCount);
  if (stray !== -1) {
    throw new DataError(
      `${test.labelsPath}: label ${String(test.pictures.labels[stray])} of picture ${String(stray)} is out of range: ` +
        `the training labels are 0..${String(classCount - 1)}`,
    );
  }
  return { splits: { train: train.pictures, test: test.pictures }, classCount };
}

async function readSplit(folder: string, names: readonly string[], split: SplitName): Promise<Split> {
  const imagesPath = findFile(folder, names, `${filePrefixes[split]}-images`, 'idx3-ubyte');
  const labelsPath = findFile(folder, names, `${filePrefixes[split]}-labels`, 'idx1-ubyte');
  const images = await readIdx(imagesPath, 3);
  const labels = await readIdx(labelsPath, 1);
  const [count = 0, height = 0, width = 0] = images.dimensions;
  if (count === 0 || height === 0 || width === 0)
    throw new DataError(`${imagesPath}: holds no pictures (${images.dimensions.join('x')})`);
  if (labels.values.length !== count) {
    throw new DataError(
      `${labelsPath}: ${String(labels.values.length)} labels for the ${String(count)} pictures of ${imagesPath}`,
    );
  }
  const shape: PictureShape = { height, width, channels: 1 };
  const pictures = {
    shape,
    pixels: images.values,
    starts: sharedUint32(count, (i) => i * bytesOf(shape)),
    labels: sharedInt32(count, (i) => labels.values[i] ?? 0),
  };
  return { pictures, labelsPath };
}

/** Both spellings are in use: `train-images-idx3-ubyte` and `train-images.idx3-ubyte`. */
function findFile(folder: string, names: readonly string[], stem: string, ending: string): string {
  const spellings = [`${stem}-${ending}`, `${stem}.${ending}`].flatMap((name) => [name, `${name}.gz`]);
  const found = spellings.find((name) => names.includes(name));
  if (found === undefined) throw new DataError(`${folder}: there is no ${stem}-${ending} or ${stem}-${ending}.gz in it`);
  return join(folder, found);
}

function countClasses({ pictures, labelsPath }: Split): number {
  const present = new Set(pictures.labels);
  const classCount = Math.max(...present) + 1;
  for (let label = 0; label < classCount; label++) {
    if (!present.has(label)) {
      throw new DataError(
        `${labelsPath}: no picture has label ${String(label)}: labels must be 0..${String(classCount - 1)} without a gap`,
      );
    }
  }
  if (classCount < 2) throw new DataError(`${labelsPath}: all labels are 0: there must be two classes or more`);
  return classCount;
}

function sizeText(shape: PictureShape): string {
  return `${String(shape.height)}x${String(shape.width)}`;
}
