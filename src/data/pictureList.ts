// Pictures that were found, split by split, before they become a store: which file each lies in, and its class by name.

import { DataError } from '../spec/errors.ts';
import { randomKey, randomUniform } from '../spec/random.ts';
import type { SplitName } from './batch.ts';
import type { DecodeRule } from './decode.ts';
import { PathListBuilder } from './pathList.ts';
import type { PathList } from './pathList.ts';
import { sharedInt32, sharedUint32 } from './pictures.ts';
import type { EncodedStore } from './pictures.ts';

/** Where a picture lies within a file of many. */
export interface PicturePlace {
  readonly offset: number;
  readonly size: number;
  readonly crc?: number | undefined;
}

/** A split that grows; a few numbers a picture and no object, for there may be millions. */
export class PictureListBuilder {
  readonly #paths = new PathListBuilder();
  readonly #fileOf: number[] = [];
  readonly #labels: number[] = [];
  readonly #offsets: number[] = [];
  readonly #sizes: number[] = [];
  readonly #crcs: number[] = [];

  get count(): number {
    return this.#labels.length;
  }

  /** A file of its own. */
  addFile(path: string, label: number): void {
    this.#fileOf.push(this.#paths.add(path));
    this.#labels.push(label);
  }

  /** A file of many pictures; `addPart` adds them. */
  addArchive(path: string): number {
    return this.#paths.add(path);
  }

  addPart(archive: number, label: number, { offset, size, crc }: PicturePlace): void {
    this.#fileOf.push(archive);
    this.#labels.push(label);
    this.#offsets.push(offset);
    this.#sizes.push(size);
    if (crc !== undefined) this.#crcs.push(crc);
  }

  build(rule: DecodeRule): EncodedStore {
    const files: PathList = this.#paths.build();
    const count = this.#labels.length;
    const at = (values: readonly number[]) => (i: number) => values[i] ?? 0;
    const store = {
      shape: { height: rule.size, width: rule.size, channels: 3 as const },
      rule,
      files,
      fileOf: sharedUint32(count, at(this.#fileOf)),
      labels: sharedInt32(count, at(this.#labels)),
    };
    if (this.#offsets.length === 0) return store;
    const offsets = new Float64Array(new SharedArrayBuffer(8 * count));
    offsets.set(this.#offsets);
    const crcs = this.#crcs.length === count ? { crcs: sharedUint32(count, at(this.#crcs)) } : {};
    return { ...store, places: { offsets, sizes: sharedUint32(count, at(this.#sizes)), ...crcs } };
  }
}

/** Which split a picture belongs to where the data has none: drawn by its name, so that another picture more or less moves no other. */
export function splitByName(name: string, valFraction: number): SplitName {
  return randomUniform(randomKey(0, 'split', name), 0) < valFraction ? 'test' : 'train';
}

/** Throws DataError where a split is empty, or a class has no training picture. */
export function checkSplits(
  name: string,
  classes: readonly string[],
  splits: Readonly<Record<SplitName, { readonly labels: Int32Array }>>,
): void {
  const { train, test } = splits;
  if (train.labels.length === 0) throw new DataError(`${name}: no training pictures`);
  if (test.labels.length === 0)
    throw new DataError(`${name}: no pictures to test on: a larger --val-fraction, or a split of its own`);
  const present = new Set(train.labels);
  const missing = classes.findIndex((_, label) => !present.has(label));
  if (missing >= 0) throw new DataError(`${name}: class ${classes[missing] ?? ''} has no training picture`);
  if (classes.length < 2) throw new DataError(`${name}: ${String(classes.length)} class: there must be two or more`);
}
