// ILSVRC2012 as its makers hand it out: a tar of a tar for each class, a tar of validation pictures, and the development kit that says what
// these show. Nothing is unpacked: pictures are read out of the tars where they lie.
// Invariant: classes are the WordNet ids of the training tars in alphabetical order, as in other tools; no name in a tar becomes a path.

import { existsSync } from 'node:fs';
import { open, readFile, stat } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { DataError } from '../../spec/errors.ts';
import type { DecodeRule } from '../decode.ts';
import { PictureListBuilder, checkSplits } from '../pictureList.ts';
import type { Dataset, EncodedStore } from '../pictures.ts';
import { tarMembers } from '../tarHeaders.ts';
import { readSynsets } from './matFile.ts';
import type { Synset } from './matFile.ts';

const files = {
  train: 'ILSVRC2012_img_train.tar',
  val: 'ILSVRC2012_img_val.tar',
  devkit: 'ILSVRC2012_devkit_t12.tar.gz',
};
/** The real one has 2.5 MB. */
const maxDevkitBytes = 64 * 1024 * 1024;

/** Whether a folder has any of the three files. */
export function isImageNetFolder(folder: string): boolean {
  return Object.values(files).some((name) => existsSync(join(folder, name)));
}

/** Scans the tars of a folder; throws DataError naming the file that is missing or wrong. */
export async function imageNetFolder(folder: string, rule: DecodeRule): Promise<Dataset<EncodedStore>> {
  const missing = Object.values(files).filter((name) => !existsSync(join(folder, name)));
  if (missing.length > 0) throw new DataError(`${folder}: ILSVRC2012 is three files, ${missing.join(' and ')} is not there`);
  const { synsets, groundTruth } = await readDevkit(join(folder, files.devkit));
  const train = await trainPictures(join(folder, files.train), rule);
  const wordsOf = new Map(synsets.map(({ wnid, words }) => [wnid, words]));
  const classes = train.wnids.map((wnid) => `${wnid} ${wordsOf.get(wnid) ?? ''}`.trim());
  const labelOf = new Map(synsets.map(({ id, wnid }) => [id, train.wnids.indexOf(wnid)]));
  const test = await testPictures(join(folder, files.val), { rule, groundTruth, labelOf });
  const splits = { train: train.store, test };
  checkSplits(folder, classes, splits);
  return { name: folder, classes, splits, statistics: { pictures: train.store.labels.length } };
}

async function trainPictures(path: string, rule: DecodeRule): Promise<{ wnids: string[]; store: EncodedStore }> {
  return withFile(path, async (file, length) => {
    const tars = new Map<string, { start: number; length: number }>();
    for await (const { name, offset, size } of tarMembers(file, { start: 0, length, path })) {
      const wnid = /^(?:.*\/)?(n\d{8})\.tar$/.exec(name)?.[1];
      if (wnid !== undefined) tars.set(wnid, { start: offset, length: size });
    }
    if (tars.size === 0) throw new DataError(`${path}: no tars of classes in it, such as n01440764.tar`);
    const wnids = [...tars.keys()].sort();
    const builder = new PictureListBuilder();
    const archive = builder.addArchive(path);
    for (const [label, wnid] of wnids.entries()) {
      const place = tars.get(wnid) ?? { start: 0, length: 0 };
      for await (const { name, offset, size } of tarMembers(file, { ...place, path: `${path} (${wnid}.tar)` }))
        if (/\.jpe?g$/i.test(name)) builder.addPart(archive, label, { offset, size });
    }
    return { wnids, store: builder.build(rule) };
  });
}

async function testPictures(
  path: string,
  { rule, groundTruth, labelOf }: { rule: DecodeRule; groundTruth: readonly number[]; labelOf: ReadonlyMap<number, number> },
): Promise<EncodedStore> {
  return withFile(path, async (file, length) => {
    const builder = new PictureListBuilder();
    const archive = builder.addArchive(path);
    for await (const { name, offset, size } of tarMembers(file, { start: 0, length, path })) {
      const number = /ILSVRC2012_val_(\d{8})\.JPEG$/.exec(name)?.[1];
      if (number === undefined) continue;
      const label = labelOf.get(groundTruth[Number(number) - 1] ?? NaN) ?? -1;
      if (label < 0) throw new DataError(`${path}: the class of picture ${number} has no ground truth or no training tar`);
      builder.addPart(archive, label, { offset, size });
    }
    if (builder.count !== groundTruth.length)
      throw new DataError(
        `${path}: ${String(builder.count)} pictures, but the ground truth is of ${String(groundTruth.length)}: fetch it again`,
      );
    return builder.build(rule);
  });
}

async function readDevkit(path: string): Promise<{ synsets: readonly Synset[]; groundTruth: readonly number[] }> {
  let bytes: Buffer;
  try {
    if ((await stat(path)).size > maxDevkitBytes) throw new Error('it is too large');
    bytes = gunzipSync(await readFile(path), { maxOutputLength: maxDevkitBytes });
  } catch (error) {
    throw new DataError(`${path} could not be read: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
  const memory = {
    read: (buffer: Buffer, offset: number, length: number, position: number) =>
      Promise.resolve(bytes.copy(buffer, offset, position, position + length)),
  };
  let [meta, truth]: (Buffer | undefined)[] = [];
  for await (const { name, offset, size } of tarMembers(memory, { start: 0, length: bytes.length, path })) {
    if (name.endsWith('/data/meta.mat')) meta = bytes.subarray(offset, offset + size);
    if (name.endsWith('/data/ILSVRC2012_validation_ground_truth.txt')) truth = bytes.subarray(offset, offset + size);
  }
  if (meta === undefined || truth === undefined)
    throw new DataError(`${path}: data/meta.mat and data/ILSVRC2012_validation_ground_truth.txt must be in it`);
  const groundTruth = truth.toString('latin1').trim().split(/\s+/).map(Number);
  if (!groundTruth.every((id) => Number.isSafeInteger(id)))
    throw new DataError(`${path}: data/ILSVRC2012_validation_ground_truth.txt is not a number a line`);
  return { synsets: readSynsets(meta, `${path} (data/meta.mat)`), groundTruth };
}

async function withFile<T>(path: string, use: (file: FileHandle, length: number) => Promise<T>): Promise<T> {
  const file = await open(path).catch((error: unknown) => {
    throw new DataError(`${path} could not be opened: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  });
  try {
    return await use(file, (await file.stat()).size);
  } finally {
    await file.close();
  }
}
