// A text file with a picture a line, `PATH LABEL`: the label is the last word, so that paths may hold spaces. Labels are numbers 0..K-1 or
// names; relative paths begin at the list's own folder. A list `train...` is tested on the `val...` beside it, else split by name. A folder
// stands for the train.txt in it.

import { existsSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join } from 'node:path';
import { DataError } from '../spec/errors.ts';
import type { FileDataOptions } from './imageFolder.ts';
import { picturesForStatistics } from './imageFolder.ts';
import { PictureListBuilder, checkSplits, splitByName } from './pictureList.ts';
import type { Dataset, EncodedStore } from './pictures.ts';

interface Line {
  readonly path: string;
  readonly label: string;
}

const maxLineLength = 8192;
/** In a folder of lists. */
export const listFile = 'train.txt';

/** Reads a list; throws DataError naming the file and the line that is wrong. */
export async function textList(path: string, { rule, valFraction }: FileDataOptions): Promise<Dataset<EncodedStore>> {
  const file = statSync(path, { throwIfNoEntry: false })?.isDirectory() === true ? join(path, listFile) : path;
  const testFile = join(dirname(file), basename(file).replace('train', 'val'));
  const hasTestFile = testFile !== file && existsSync(testFile);
  const files = hasTestFile
    ? ([
        ['train', file],
        ['test', testFile],
      ] as const)
    : ([['train', file]] as const);
  const classes = await readClasses(files.map(([, path]) => path));
  const builders = { train: new PictureListBuilder(), test: new PictureListBuilder() };
  for (const [split, list] of files) {
    for await (const { path, label } of linesOf(list)) {
      const absolute = isAbsolute(path) ? path : join(dirname(list), path);
      builders[hasTestFile ? split : splitByName(path, valFraction)].addFile(absolute, classes.indexOf.get(label) ?? 0);
    }
  }
  const splits = { train: builders.train.build(rule), test: builders.test.build(rule) };
  checkSplits(file, classes.names, splits);
  return {
    name: file,
    classes: classes.names,
    splits,
    statistics: { pictures: Math.min(picturesForStatistics, builders.train.count) },
  };
}

/** The classes of lists: numbers in their order, 0..K-1 without a gap, or names in the order of their UTF-16 code units. */
async function readClasses(files: readonly string[]): Promise<{ names: string[]; indexOf: ReadonlyMap<string, number> }> {
  const labels = new Set<string>();
  for (const file of files) for await (const { label } of linesOf(file)) labels.add(label);
  const areNumbers = [...labels].every((label) => /^\d{1,9}$/.test(label));
  if (!areNumbers) {
    const names = [...labels].sort();
    return { names, indexOf: new Map(names.map((name, i) => [name, i])) };
  }
  const count = [...labels].reduce((most, label) => Math.max(most, Number(label)), -1) + 1;
  if (count > 1_000_000) throw new DataError(`${files.join(', ')}: labels up to ${String(count - 1)}`);
  return {
    names: Array.from({ length: count }, (_, i) => String(i)),
    indexOf: new Map([...labels].map((label) => [label, Number(label)])),
  };
}

async function* linesOf(path: string): AsyncGenerator<Line> {
  const file = await open(path).catch((error: unknown) => {
    throw new DataError(`${path} could not be opened: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  });
  let number = 0;
  for await (const text of file.readLines({ encoding: 'utf8' })) {
    number++;
    // trim takes a byte order mark away as well.
    const line = text.trim();
    if (line === '') continue;
    const match = line.length > maxLineLength ? null : /^(.*\S)\s+(\S+)$/.exec(line);
    if (match?.[1] === undefined || match[2] === undefined) {
      throw new DataError(`${path}, line ${String(number)}: not 'PATH LABEL', but '${line.slice(0, 80)}'`);
    }
    yield { path: match[1], label: match[2] };
  }
}
