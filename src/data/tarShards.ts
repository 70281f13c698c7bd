// WebDataset shards: `name-{000000..000146}.tar`, in each KEY.jpg (or png, webp) beside KEY.cls with the class's number. Shards are scanned once
// for where pictures lie; they are then read wherever the order of an epoch wants them. `train` in the name is tested on `val` beside it.

import { existsSync } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { DataError } from '../spec/errors.ts';
import type { FileDataOptions } from './imageFolder.ts';
import { isPictureName, picturesForStatistics } from './imageFolder.ts';
import { PictureListBuilder, checkSplits, splitByName } from './pictureList.ts';
import type { Dataset } from './pictures.ts';
import { tarMembers } from './tarHeaders.ts';
import type { TarMember } from './tarHeaders.ts';

const maxShards = 100_000;

/** The paths of `a-{000..012}-b.tar`: one range at most, digits padded as they are written. */
export function expandBraces(pattern: string): string[] {
  const match = /^(.*)\{(\d{1,12})\.\.(\d{1,12})\}(.*)$/.exec(pattern);
  if (match === null) return [pattern];
  const [, before = '', first = '', last = '', after = ''] = match;
  const count = Number(last) - Number(first) + 1;
  if (count < 1 || count > maxShards) throw new DataError(`${pattern}: a range of ${String(count)} shards`);
  return Array.from({ length: count }, (_, i) => `${before}${String(Number(first) + i).padStart(first.length, '0')}${after}`);
}

/** Scans shards; throws DataError naming the shard that is missing or wrong. */
export async function tarShards(pattern: string, { rule, valFraction }: FileDataOptions): Promise<Dataset> {
  const trainShards = expandBraces(pattern);
  const testShards = expandBraces(join(dirname(pattern), basename(pattern).replace('train', 'val'))).filter((path) =>
    existsSync(path),
  );
  const hasTest = testShards.length > 0 && testShards[0] !== trainShards[0];
  const builders = { train: new PictureListBuilder(), test: new PictureListBuilder() };
  let classCount = 0;
  for (const [split, shards] of [
    ['train', trainShards],
    ['test', hasTest ? testShards : []],
  ] as const) {
    for (const shard of shards) {
      const archives = { train: builders.train.addArchive(shard), test: builders.test.addArchive(shard) };
      for (const { key, label, place } of await scanShard(shard)) {
        const into = hasTest ? split : splitByName(`${basename(shard)} ${key}`, valFraction);
        builders[into].addPart(archives[into], label, place);
        classCount = Math.max(classCount, label + 1);
      }
    }
  }
  const classes = await classNames(dirname(pattern), classCount);
  const splits = { train: builders.train.build(rule), test: builders.test.build(rule) };
  checkSplits(pattern, classes, splits);
  return { name: pattern, classes, splits, statistics: { pictures: Math.min(picturesForStatistics, builders.train.count) } };
}

async function scanShard(path: string): Promise<{ key: string; label: number; place: TarMember }[]> {
  const file = await open(path).catch((error: unknown) => {
    throw new DataError(`${path} could not be opened: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  });
  try {
    const { size } = await file.stat();
    const pictures = new Map<string, TarMember>();
    const labels = new Map<string, number>();
    for await (const member of tarMembers(file, { start: 0, length: size, path })) {
      const [key, ending] = splitName(member.name);
      if (ending === 'cls') labels.set(key, await readLabel(file, member, path));
      else if (isPictureName(member.name)) pictures.set(key, member);
    }
    return [...pictures].map(([key, place]) => {
      const label = labels.get(key);
      if (label === undefined) throw new DataError(`${path}: ${place.name} has no ${key}.cls beside it`);
      return { key, label, place };
    });
  } finally {
    await file.close();
  }
}

/** WebDataset's key ends at the first dot of the file's own name. */
function splitName(name: string): [key: string, ending: string] {
  const file = name.slice(name.lastIndexOf('/') + 1);
  const dot = file.indexOf('.');
  return dot < 0 ? [name, ''] : [name.slice(0, name.length - file.length + dot), file.slice(dot + 1)];
}

async function readLabel(
  file: Awaited<ReturnType<typeof open>>,
  { name, offset, size }: TarMember,
  path: string,
): Promise<number> {
  const text = Buffer.alloc(Math.min(size, 16));
  await file.read(text, 0, text.length, offset);
  const digits = text.toString('latin1').trim();
  if (!/^\d{1,6}$/.test(digits))
    throw new DataError(`${path}: ${name} holds '${digits.slice(0, 16)}', not the number of a class`);
  return Number(digits);
}

async function classNames(folder: string, count: number): Promise<string[]> {
  const text = await readFile(join(folder, 'classes.txt'), 'utf8').catch(() => undefined);
  const names =
    text
      ?.split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '') ?? [];
  if (text !== undefined && names.length < count)
    throw new DataError(
      `${join(folder, 'classes.txt')} names ${String(names.length)} classes, but the labels go up to ${String(count - 1)}`,
    );
  return text === undefined ? Array.from({ length: count }, (_, label) => String(label)) : names;
}
