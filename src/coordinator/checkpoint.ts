// One checkpoint: a folder of model.safetensors, momentum.safetensors and, last, manifest.json (docs/adr/0013-checkpoints.md).
// Invariant: a folder named step-N is whole: it was written aside, synced, and renamed. What is read back is checked against the
// manifest's hashes before any of it is used.

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readFile, rename, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { runConfigSchema } from '../spec/config.ts';
import { CrosstowerError, StorageError } from '../spec/errors.ts';
import { failpoint } from '../spec/failpoint.ts';
import { mergedShapes, sizeOf } from '../spec/layout.ts';
import type { NetworkPlan } from '../spec/network.ts';
import { writeSafetensors } from '../formats/safetensors.ts';
import type { TensorPiece } from '../formats/safetensors.ts';

export const fileNames = { weights: 'model.safetensors', momentum: 'momentum.safetensors' } as const;
const manifestName = 'manifest.json';
const count = z.int().min(0);
const positive = z.int().min(1);
const writtenFile = z.strictObject({ bytes: count, sha256: z.string().regex(/^[0-9a-f]{64}$/) });

/** What manifest.json says: all that a run needs to go on, and all that a reader of the weights needs to know. */
export const manifestSchema = z.strictObject({
  format: z.literal('crosstower-checkpoint'),
  version: z.literal(1),
  packageVersion: z.string(),
  /** Id of the run, and the generation of its messages: a run that goes on raises it. */
  run: z.string().min(1).max(128),
  generation: z.int().min(1),
  /** Updates that every tower has applied. An evaluation that is due at this step has not happened yet. */
  step: count,
  config: runConfigSchema,
  classes: z.array(z.string()).min(2),
  data: z.strictObject({
    train: count,
    test: count,
    /** Per channel, in 0..255. */
    mean: z.array(z.number()).min(1).max(3),
    deviation: z.array(z.number().positive()).min(1).max(3),
    /** What the network was shown, after the crop: small pictures keep their size. None in checkpoints of weights from elsewhere. */
    picture: z.strictObject({ height: positive, width: positive, channels: z.literal([1, 3]) }).optional(),
  }),
  schedule: z.strictObject({ bestError: z.number().nullable(), evaluationsSince: count, drops: count }),
  /** Steps in a row that were skipped for a loss that was not finite. */
  skippedBefore: count,
  /** The best evaluation up to here. */
  best: z.strictObject({ step: count, top1: z.number() }).optional(),
  /** Length of metrics.jsonl after this step. */
  metricsBytes: count,
  files: z.strictObject({ [fileNames.weights]: writtenFile, [fileNames.momentum]: writtenFile }),
});

export type Manifest = z.infer<typeof manifestSchema>;
export type ManifestFacts = Omit<Manifest, 'format' | 'version' | 'files'>;

/** The two sets of a snapshot, consumed one after the other. */
export interface SnapshotTensors {
  readonly weights: AsyncIterable<TensorPiece>;
  readonly momentum: AsyncIterable<TensorPiece>;
}

/** Room that must be free beside the files themselves. */
const spaceFactor = 1.2;

/** Writes the checkpoint `folder`; throws StorageError where the file system refuses, and then leaves nothing behind. */
export async function writeCheckpoint(
  folder: string,
  { plan, tensors, facts }: { plan: NetworkPlan; tensors: SnapshotTensors; facts: ManifestFacts },
): Promise<void> {
  const temporary = `${folder}.tmp-${String(facts.generation)}`;
  try {
    await mkdir(dirname(folder), { recursive: true });
    await checkSpace(dirname(folder), plan);
    await rm(temporary, { recursive: true, force: true });
    await mkdir(temporary);
    const metadata = { network: plan.spec.name, step: String(facts.step), classes: JSON.stringify(facts.classes) };
    const shapes = [...mergedShapes(plan)].map(([name, shape]) => ({ name, shape }));
    const write = (of: keyof typeof fileNames) => writeSafetensors(join(temporary, fileNames[of]), shapes, tensors[of], metadata);
    failpoint('checkpoint.write', facts.step);
    const files = { [fileNames.weights]: await write('weights'), [fileNames.momentum]: await write('momentum') };
    failpoint('checkpoint.manifest', facts.step);
    const manifest = manifestSchema.parse({ format: 'crosstower-checkpoint', version: 1, ...facts, files });
    await writeFile(join(temporary, manifestName), `${JSON.stringify(manifest, undefined, 2)}\n`, { flush: true });
    failpoint('checkpoint.fsync', facts.step);
    await syncFolder(temporary);
    await setAside(folder);
    failpoint('checkpoint.rename', facts.step);
    await rename(temporary, folder);
    await syncFolder(dirname(folder));
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
    if (error instanceof CrosstowerError) throw error;
    throw new StorageError(`the checkpoint ${folder} could not be written: ${messageOf(error)}`, { cause: error });
  }
}

/** The manifest of a checkpoint whose files are all there with the sizes and hashes that it names; throws StorageError otherwise. */
export async function readCheckpoint(folder: string): Promise<Manifest> {
  const manifest = await readManifest(folder);
  for (const [name, { bytes, sha256 }] of Object.entries(manifest.files)) {
    const path = join(folder, name);
    try {
      const { size } = await stat(path);
      if (size !== bytes) throw new Error(`it has ${String(size)} bytes, not ${String(bytes)}`);
      if ((await hashOf(path)) !== sha256) throw new Error('its contents are not what was written');
    } catch (error) {
      throw new StorageError(`the checkpoint ${folder} is broken: ${name}: ${messageOf(error)}`, { cause: error });
    }
  }
  return manifest;
}

/** The manifest alone, its files unchecked; throws StorageError where it is not one. */
export async function readManifest(folder: string): Promise<Manifest> {
  try {
    return manifestSchema.parse(JSON.parse(await readFile(join(folder, manifestName), 'utf8')));
  } catch (error) {
    const what =
      error instanceof z.ZodError
        ? `${error.issues[0]?.path.join('.') ?? ''}: ${error.issues[0]?.message ?? ''}`
        : messageOf(error);
    throw new StorageError(`the checkpoint ${folder} is broken: ${manifestName}: ${what}`, { cause: error });
  }
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

async function checkSpace(folder: string, plan: NetworkPlan): Promise<void> {
  const values = [...mergedShapes(plan).values()].reduce((sum, shape) => sum + sizeOf(shape), 0);
  const needed = spaceFactor * 2 * 4 * values;
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize < needed) {
    const [have, want] = [bavail * bsize, needed].map((bytes) => `${(bytes / 1e6).toFixed(0)} MB`);
    throw new StorageError(`${folder} has ${have ?? ''} free, a checkpoint needs ${want ?? ''}`);
  }
}

/** A folder of this name that did not verify is kept, under another name. */
async function setAside(folder: string): Promise<void> {
  for (let number = 1; ; number++) {
    try {
      await rename(folder, `${folder}.broken-${String(number)}`);
      return;
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === 'ENOENT') return;
      if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error;
    }
  }
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** `step-00001200`: sorts by step. */
export function checkpointName(step: number): string {
  return `step-${String(step).padStart(8, '0')}`;
}

/** The step of a checkpoint's folder, by its name alone; nothing for any other name. */
export function stepOfName(folder: string): number | undefined {
  const match = /^step-(\d{8,})$/.exec(basename(folder));
  return match?.[1] === undefined ? undefined : Number(match[1]);
}
