// A trained model by its path, as `export`, `eval`, `predict` and `--pretrained` take it: a run's folder (its newest whole checkpoint), a
// checkpoint's folder, or a file of weights alone.
// Invariant: the files of a checkpoint were checked against its manifest before any of them is used.

import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { DataError, UsageError } from '../spec/errors.ts';
import { openWeights } from '../formats/weightsFile.ts';
import type { WeightsFile } from '../formats/weightsFile.ts';
import { fileNames, readCheckpoint } from './checkpoint.ts';
import type { Manifest } from './checkpoint.ts';
import { newestCheckpoint } from './checkpoints.ts';
import { runPaths } from './runFolder.ts';

export interface ModelSource {
  /** The checkpoint's folder, or the file. */
  readonly path: string;
  /** What the checkpoint says of its run; a file of weights alone has none. */
  readonly manifest?: Manifest;
  /** Open until it is closed. */
  readonly weights: WeightsFile;
}

/** Finds and opens a model; throws UsageError where there is none, StorageError where a checkpoint is broken, DataError where a file holds no weights. */
export async function openModel(path: string, say: (line: string) => void): Promise<ModelSource> {
  if (!existsSync(path)) throw new UsageError(`there is no ${path}: name a run's folder, a checkpoint or a file of weights`);
  if (!statSync(path).isDirectory()) return { path, weights: await openWeights(path) };
  const { path: folder, manifest } = await checkpointIn(path, say);
  return { path: folder, manifest, weights: await openWeights(join(folder, fileNames.weights)) };
}

async function checkpointIn(path: string, say: (line: string) => void): Promise<{ path: string; manifest: Manifest }> {
  const { checkpoints } = runPaths(path);
  if (!existsSync(checkpoints)) return { path, manifest: await readCheckpoint(path) };
  const newest = await newestCheckpoint(checkpoints, say);
  if (newest === undefined) throw new UsageError(`${path} holds no checkpoint yet`);
  return newest;
}

/** Throws DataError naming the first class in which the data differs from what the checkpoint was made with. */
export function checkSameClasses(
  path: string,
  before: readonly string[],
  { name, classes }: { name: string; classes: readonly string[] },
): void {
  const other = before.findIndex((label, i) => label !== classes[i]);
  if (other < 0 && before.length === classes.length) return;
  const first = other < 0 ? before.length : other;
  throw new DataError(
    `${path} has ${String(before.length)} classes and ${name} has ${String(classes.length)}; class ${String(first)} is ` +
      `'${before[first] ?? 'none'}' there and '${classes[first] ?? 'none'}' here`,
  );
}
