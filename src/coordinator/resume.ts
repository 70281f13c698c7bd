// Where a run goes on: `--resume auto` takes the newest whole checkpoint of the run folder, `--resume PATH` that of a run or one of its own.
// Invariant: a run goes on with the config it was started with; what would make it another run is refused unless it is allowed by name.

import { existsSync } from 'node:fs';
import { readdir, realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { runConfigSchema } from '../spec/config.ts';
import type { RunConfig } from '../spec/config.ts';
import { UsageError } from '../spec/errors.ts';
import { readCheckpoint, stepOfName } from './checkpoint.ts';
import type { Manifest } from './checkpoint.ts';
import { listCheckpoints, newestCheckpoint } from './checkpoints.ts';
import { runPaths } from './runFolder.ts';

export interface ResumePoint {
  /** The checkpoint's folder. */
  readonly path: string;
  readonly manifest: Manifest;
  /** The run folder that goes on, or a new one that branches off. */
  readonly runDir: string;
  /** Whether the run goes on in its own folder. */
  readonly inPlace: boolean;
}

/** Finds the checkpoint; nothing where `auto` finds no run to go on with. Throws UsageError where PATH is none, StorageError where it is broken. */
export async function findResumePoint(
  wanted: string,
  { runDir, runsFolder, say }: { runDir: string | undefined; runsFolder: string; say: (line: string) => void },
): Promise<ResumePoint | undefined> {
  if (wanted === 'auto') {
    const run = runDir ?? (await newestRun(runsFolder));
    const found = run === undefined ? undefined : await newestCheckpoint(runPaths(run).checkpoints, say);
    return run === undefined || found === undefined ? undefined : { ...found, runDir: run, inPlace: true };
  }
  if (!existsSync(wanted)) throw new UsageError(`--resume: there is no ${wanted}`);
  if (existsSync(runPaths(wanted).checkpoints)) {
    const found = await newestCheckpoint(runPaths(wanted).checkpoints, say);
    if (found === undefined) throw new UsageError(`--resume: ${wanted} holds no checkpoint`);
    return { ...found, ...placeOf(wanted, runDir) };
  }
  const path = await realpath(wanted);
  const manifest = await readCheckpoint(path);
  const home = dirname(dirname(path));
  if (basename(dirname(path)) !== 'checkpoints' || stepOfName(path) === undefined) {
    if (runDir === undefined) throw new UsageError(`--resume: ${wanted} lies in no run folder: name one with --run-dir`);
    return { path, manifest, runDir, inPlace: false };
  }
  const place = placeOf(home, runDir);
  const newest = (await listCheckpoints(dirname(path)))[0];
  if (place.inPlace && newest !== undefined && newest.step > manifest.step) {
    throw new UsageError(
      `--resume: ${wanted} is not the newest checkpoint of its run (that is ${newest.name}): name a folder for a run that branches off with --run-dir`,
    );
  }
  return { path, manifest, ...place };
}

function placeOf(home: string, runDir: string | undefined): Pick<ResumePoint, 'runDir' | 'inPlace'> {
  return runDir === undefined || runDir === home ? { runDir: home, inPlace: true } : { runDir, inPlace: false };
}

/** The last folder by name: default run folders are named by their date. */
async function newestRun(folder: string): Promise<string | undefined> {
  const names = await readdir(folder).catch(() => []);
  const newest = names
    .filter((name) => existsSync(runPaths(join(folder, name)).checkpoints))
    .sort()
    .at(-1);
  return newest === undefined ? undefined : join(folder, newest);
}

/** Fields that may change when a run goes on: how long it is, and how it is run. */
const freeFields: ReadonlySet<string> = new Set([
  'epochs',
  'steps',
  'checkpointEvery',
  'keep',
  'commitEvery',
  'maxRestarts',
  'joinTimeout',
  'stepTimeout',
  'nonFinite',
  'onBadImage',
  'replicas',
]);

/** Throws UsageError naming each field in which two configs differ, unless it is free or allowed by name. */
export function checkResumedConfig(before: RunConfig, after: RunConfig, allowed: readonly string[]): void {
  const fields = Object.keys(runConfigSchema.shape) as (keyof RunConfig)[];
  for (const name of allowed)
    if (!fields.some((field) => field === name)) throw new UsageError(`--allow-change: the config has no field ${name}`);
  const changes = fields
    .filter((field) => !freeFields.has(field) && !allowed.includes(field))
    .filter((field) => JSON.stringify(before[field]) !== JSON.stringify(after[field]))
    .map((field) => ({ field, text: `${field}: ${inWords(before[field])} before, ${inWords(after[field])} now` }));
  if (changes.length === 0) return;
  const names = changes.map(({ field }) => field).join(',');
  const texts = changes.map(({ text }) => text).join('; ');
  throw new UsageError(`the run that goes on would change: ${texts}. If that is meant, add --allow-change ${names}`);
}

function inWords(value: unknown): string {
  return value === undefined ? 'none' : JSON.stringify(value);
}
