// The checkpoints of a run, in RUN/checkpoints: written one at a time while training goes on, with rests that leave it the machine (pace.ts),
// pointed to by `last` and `best`, and pruned.
// Invariant: `last` and `best` always name whole checkpoints, and a checkpoint is removed only after a newer one is whole.

import { readdir, readlink, rename, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { PeerLostError, StorageError } from '../spec/errors.ts';
import { failpoint } from '../spec/failpoint.ts';
import type { NetworkPlan } from '../spec/network.ts';
import { checkpointName, readCheckpoint, readManifest, stepOfName, writeCheckpoint } from './checkpoint.ts';
import type { Manifest, ManifestFacts } from './checkpoint.ts';
import { Pace } from './pace.ts';
import { mergedPieces } from './snapshot.ts';
import type { BlockOfTowers } from './snapshot.ts';

type Pointer = 'last' | 'best';

/** Checkpoints in a row that may fail before the run ends: a full disk may be emptied meanwhile. */
const failureLimit = 3;

export interface CheckpointsOptions {
  /** RUN/checkpoints. */
  readonly folder: string;
  readonly plan: NetworkPlan;
  /** Newest ones that are kept. */
  readonly keep: number;
  /** The one that the run goes on from, where it lies in this folder. */
  readonly lastStep?: number | undefined;
  /** Aborted: the run is to end, and nothing rests any more. */
  readonly stop?: AbortSignal;
  readonly say: (line: string) => void;
}

export class Checkpoints {
  readonly #options: CheckpointsOptions;
  #pending: Promise<void>;
  /** Of the one that is being written. */
  #pace = new Pace();
  #failures = 0;
  /** Why the last one was not written. */
  #failure: StorageError | undefined;
  #lastStep: number | undefined;

  constructor(options: CheckpointsOptions) {
    this.#options = options;
    this.#lastStep = options.lastStep;
    options.stop?.addEventListener('abort', () => {
      this.#pace.hurry();
    });
    this.#pending = removeUnfinished(options.folder);
  }

  /** Of the newest one that is whole. */
  get lastStep(): number | undefined {
    return this.#lastStep;
  }

  /** The newest one that is whole. */
  get lastPath(): string | undefined {
    return this.#lastStep === undefined ? undefined : join(this.#options.folder, checkpointName(this.#lastStep));
  }

  /** Starts to write the state that the towers are about to send; `settled` waits for it. */
  begin(facts: ManifestFacts, blocks: AsyncGenerator<BlockOfTowers>): void {
    this.#pace.hurry();
    const pace = new Pace();
    this.#pace = pace;
    this.#pending = this.#pending.then(() => this.#write(facts, blocks, pace));
    // Whoever waits for it hears of it.
    this.#pending.catch(() => undefined);
  }

  /** Waits until what was begun is written, or has failed; throws StorageError where too many have failed in a row. */
  async settled(): Promise<void> {
    this.#pace.hurry();
    await this.#pending;
    if (this.#failure !== undefined && this.#failures >= failureLimit) throw this.#failure;
  }

  /** As `settled`, for the last one of a run: any failure is thrown. */
  async finish(): Promise<void> {
    this.#pace.hurry();
    await this.#pending;
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** The workers that were sending one are lost: it is given up, if it still needs them. */
  async abandon(): Promise<void> {
    this.#pace.hurry();
    await this.#pending.catch((error: unknown) => {
      if (!(error instanceof PeerLostError)) throw error;
    });
    this.#pending = Promise.resolve();
  }

  /** From now on `best` is the checkpoint of this step, once it is written. */
  markBest(step: number): void {
    this.#pending = this.#pending.then(async () => {
      if (this.#lastStep === step) await this.#point('best', step);
    });
    this.#pending.catch(() => undefined);
  }

  async #write(facts: ManifestFacts, sent: AsyncGenerator<BlockOfTowers>, pace: Pace): Promise<void> {
    const { folder, plan, say } = this.#options;
    const path = join(folder, checkpointName(facts.step));
    // Between pieces nothing is fetched, merged, hashed or written.
    const blocks = pace.awaited(sent);
    const pieces = (of: 'weights' | 'momentum') => pace.spread(mergedPieces(plan, of, blocks));
    const tensors = { weights: pieces('weights'), momentum: pieces('momentum') };
    try {
      await writeCheckpoint(path, { plan, tensors, facts });
      this.#lastStep = facts.step;
      [this.#failures, this.#failure] = [0, undefined];
      failpoint('checkpoint.pointer', facts.step);
      await this.#point('last', facts.step);
      failpoint('checkpoint.prune', facts.step);
      await this.#prune(facts.run);
    } catch (error) {
      if (error instanceof PeerLostError) throw error;
      this.#failures++;
      this.#failure = error instanceof StorageError ? error : new StorageError(String(error), { cause: error });
      say(`${this.#failure.message}; training goes on, and it is tried again at the next checkpoint`);
      // What the towers still send of it is taken and dropped.
      for await (const _ of blocks);
    }
  }

  async #point(pointer: Pointer, step: number): Promise<void> {
    const path = join(this.#options.folder, pointer);
    const temporary = `${path}.tmp`;
    try {
      await rm(temporary, { force: true });
      await symlink(checkpointName(step), temporary);
      await rename(temporary, path);
    } catch (error) {
      throw new StorageError(`${path} could not be moved to step ${String(step)}: ${String(error)}`, { cause: error });
    }
  }

  /** Removes what this run has written beyond the newest and the best. */
  async #prune(run: string): Promise<void> {
    const { folder, keep } = this.#options;
    const pointed = new Set(
      await Promise.all((['last', 'best'] as const).map((pointer) => readlink(join(folder, pointer)).catch(() => ''))),
    );
    for (const { path, name } of (await listCheckpoints(folder)).slice(keep)) {
      if (pointed.has(name)) continue;
      const manifest = await readManifest(path).catch(() => undefined);
      if (manifest?.run === run) await rm(path, { recursive: true });
    }
  }
}

/** What a process left behind that died while it wrote: whoever holds the run folder knows that it is dead. */
async function removeUnfinished(folder: string): Promise<void> {
  const names = await readdir(folder).catch(() => []);
  for (const name of names) if (/^step-\d+\.tmp-\d+$/.test(name)) await rm(join(folder, name), { recursive: true, force: true });
}

/** The checkpoints in a folder by their names, newest first; none where there is no folder. */
export async function listCheckpoints(folder: string): Promise<{ path: string; name: string; step: number }[]> {
  const names = await readdir(folder).catch(() => []);
  return names
    .flatMap((name) => {
      const step = stepOfName(name);
      return step === undefined ? [] : [{ path: join(folder, name), name, step }];
    })
    .sort((a, b) => b.step - a.step);
}

/** The newest checkpoint of a folder that verifies; broken ones are named and passed over. Throws StorageError where all are broken. */
export async function newestCheckpoint(
  folder: string,
  say: (line: string) => void,
): Promise<{ path: string; manifest: Manifest } | undefined> {
  const found = await listCheckpoints(folder);
  for (const { path } of found) {
    try {
      return { path, manifest: await readCheckpoint(path) };
    } catch (error) {
      say(`${error instanceof Error ? error.message : String(error)}; trying the one before`);
    }
  }
  if (found.length === 0) return undefined;
  throw new StorageError(`no checkpoint in ${folder} is whole: start anew in another --run-dir`);
}
