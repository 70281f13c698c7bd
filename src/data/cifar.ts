// CIFAR-10 and CIFAR-100 in their binary form: records of one or two label bytes and 32x32 pixels, all red, then all green, then all blue.
// Source: the description of the binary version at cs.toronto.edu/~kriz/cifar.html.

import { readFile, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { DataError } from '../spec/errors.ts';
import type { SplitName } from './batch.ts';
import { checkSplits } from './pictureList.ts';
import { sharedInt32, sharedUint32 } from './pictures.ts';
import type { Dataset, PictureStore } from './pictures.ts';

const side = 32;
const area = side * side;
const pictureBytes = 3 * area;
/** A training file of CIFAR-100 has 154 MB. */
const maxFileBytes = 512 * 1024 * 1024;

interface Form {
  readonly files: Readonly<Record<SplitName, readonly string[]>>;
  readonly namesFile: string;
  /** Bytes before the pixels; the last of them is the class (CIFAR-100's fine label). */
  readonly labelBytes: number;
}

const forms: readonly Form[] = [
  {
    files: { train: [1, 2, 3, 4, 5].map((n) => `data_batch_${String(n)}.bin`), test: ['test_batch.bin'] },
    namesFile: 'batches.meta.txt',
    labelBytes: 1,
  },
  { files: { train: ['train.bin'], test: ['test.bin'] }, namesFile: 'fine_label_names.txt', labelBytes: 2 },
];

/** Whether a folder's files are those of CIFAR-10 or CIFAR-100. */
export function isCifarFolder(names: readonly string[]): boolean {
  return forms.some(({ files }) => names.includes(files.test[0] ?? '') && names.includes(files.train[0] ?? ''));
}

/** Reads a CIFAR folder; throws DataError naming the file that is missing or wrong. */
export async function cifarFolder(folder: string): Promise<Dataset<PictureStore>> {
  const names = await readdir(folder).catch((error: unknown) => {
    throw new DataError(`there is no data folder ${folder}`, { cause: error });
  });
  const form = forms.find(({ files }) => names.includes(files.test[0] ?? ''));
  if (form === undefined) throw new DataError(`${folder}: neither test_batch.bin (CIFAR-10) nor test.bin (CIFAR-100) is in it`);
  const namesPath = join(folder, form.namesFile);
  const classes = (await readWhole(namesPath))
    .toString('utf8')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  const read = (split: SplitName): Promise<PictureStore> => readRecords(folder, form, split, classes.length);
  const splits = { train: await read('train'), test: await read('test') };
  checkSplits(folder, classes, splits);
  return { name: folder, classes, splits, statistics: { pictures: splits.train.labels.length } };
}

async function readRecords(
  folder: string,
  { files, labelBytes }: Form,
  split: SplitName,
  classCount: number,
): Promise<PictureStore> {
  const paths = files[split].map((name) => join(folder, name));
  const contents: Buffer[] = [];
  for (const path of paths) contents.push(await readWhole(path));
  const recordBytes = labelBytes + pictureBytes;
  const counts = contents.map(({ length }, i) => {
    if (length === 0 || length % recordBytes !== 0)
      throw new DataError(`${paths[i] ?? ''}: ${String(length)} bytes are no number of records of ${String(recordBytes)}`);
    return length / recordBytes;
  });
  const count = counts.reduce((sum, one) => sum + one, 0);
  const pixels = new Uint8Array(new SharedArrayBuffer(count * pictureBytes));
  const labels = sharedInt32(count, () => 0);
  let picture = 0;
  for (const [i, content] of contents.entries()) {
    for (let start = 0; start < content.length; start += recordBytes, picture++) {
      const label = content[start + labelBytes - 1] ?? 0;
      if (label >= classCount)
        throw new DataError(
          `${paths[i] ?? ''}: label ${String(label)} of record ${String(start / recordBytes)}, but there are ${String(classCount)} classes`,
        );
      labels[picture] = label;
      interleave(content.subarray(start + labelBytes, start + recordBytes), pixels.subarray(picture * pictureBytes));
    }
  }
  return {
    shape: { height: side, width: side, channels: 3 },
    pixels,
    starts: sharedUint32(count, (n) => n * pictureBytes),
    labels,
  };
}

/** Planes of red, green and blue to pixels. */
function interleave(planes: Uint8Array, out: Uint8Array): void {
  for (let channel = 0; channel < 3; channel++) {
    for (let i = 0; i < area; i++) out[3 * i + channel] = planes[channel * area + i] ?? 0;
  }
}

async function readWhole(path: string): Promise<Buffer> {
  try {
    const { size } = await stat(path);
    if (size > maxFileBytes) throw new Error(`${String(size)} bytes are too many`);
    return await readFile(path);
  } catch (error) {
    throw new DataError(`${path} could not be read: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}
