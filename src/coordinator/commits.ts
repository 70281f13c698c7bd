// What a run can return to: its last checkpoint, a newer state in the coordinator's memory, or where it started.
// Invariant: a commit is whole or is none; one in memory takes the place of the one before only when every block of it is there.
// One snapshot is under way at a time, for a tower holds one copy of its state.

import { PeerLostError } from '../spec/errors.ts';
import type { NetworkPlan } from '../spec/network.ts';
import { readFloatsPayload } from '../protocol/payloads.ts';
import type { ManifestFacts } from './checkpoint.ts';
import { newestCheckpoint } from './checkpoints.ts';
import type { Checkpoints } from './checkpoints.ts';
import type { InitialState, SentBlock } from './initialState.ts';
import { openCheckpoint } from './runStart.ts';
import type { RunStart, RunState } from './runStart.ts';
import type { BlockOfTowers } from './snapshot.ts';

export type Reached = RunState & { readonly metricsBytes: number };

export interface CommitsOptions {
  readonly checkpoints: Checkpoints;
  /** RUN/checkpoints. */
  readonly folder: string;
  readonly plan: NetworkPlan;
  /** Opens what the run started from, as long as nothing was committed. */
  readonly reopenStart: () => Promise<RunStart>;
  readonly say: (line: string) => void;
}

export class Commits {
  readonly #options: CommitsOptions;
  #kept: { readonly reached: Reached; readonly state: InitialState } | undefined;
  #keeping: Promise<void> = Promise.resolve();

  constructor(options: CommitsOptions) {
    this.#options = options;
  }

  /** The step that `reopen` returns to; 0 before the first commit. */
  get step(): number {
    return Math.max(this.#kept?.reached.step ?? 0, this.#options.checkpoints.lastStep ?? 0);
  }

  /** The step of the last checkpoint. */
  get savedStep(): number | undefined {
    return this.#options.checkpoints.lastStep;
  }

  /** Starts to write the state that the towers are about to send. */
  beginCheckpoint(facts: ManifestFacts, blocks: AsyncGenerator<BlockOfTowers>): void {
    this.#options.checkpoints.begin(facts, blocks);
  }

  /** Starts to keep the state that the towers are about to send. */
  beginKeeping(reached: Reached, blocks: AsyncGenerator<BlockOfTowers>): void {
    this.#keeping = this.#keep(reached, blocks);
    // Whoever waits for it hears of it.
    this.#keeping.catch(() => undefined);
  }

  /** Waits until what was begun is whole, or has failed; throws StorageError where too many checkpoints have failed in a row. */
  async settled(): Promise<void> {
    await this.#keeping;
    await this.#options.checkpoints.settled();
  }

  /** As `settled`, at the end of a run: any failure is thrown. */
  async finish(): Promise<void> {
    await this.#keeping;
    await this.#options.checkpoints.finish();
  }

  markBest(step: number): void {
    this.#options.checkpoints.markBest(step);
  }

  /** The workers that were sending a state are lost: what is not whole is given up. */
  async abandon(): Promise<void> {
    await this.#keeping.catch((error: unknown) => {
      if (!(error instanceof PeerLostError)) throw error;
    });
    this.#keeping = Promise.resolve();
    await this.#options.checkpoints.abandon();
  }

  /** Opens the last commit: the newer one of the state in memory and the newest checkpoint that verifies, or the start of the run. */
  async reopen(): Promise<RunStart> {
    const { checkpoints, folder, plan, reopenStart, say } = this.#options;
    if (this.#kept !== undefined && this.#kept.reached.step > (checkpoints.lastStep ?? 0)) {
      const { metricsBytes, ...from } = this.#kept.reached;
      return { state: this.#kept.state, from, metricsBytes, close: () => Promise.resolve() };
    }
    const newest = checkpoints.lastStep === undefined ? undefined : await newestCheckpoint(folder, say);
    return newest === undefined ? reopenStart() : openCheckpoint(plan, newest);
  }

  async #keep(reached: Reached, blocks: AsyncIterable<BlockOfTowers>): Promise<void> {
    const sent: [SentBlock[], SentBlock[]] = [[], []];
    for await (const ofTowers of blocks) {
      for (const { header, payload } of ofTowers) {
        const { name, of, tower, bytes } = { ...header, bytes: payload.reduce((sum, frame) => sum + frame.byteLength, 0) };
        sent[tower].push({ name, of, values: readFloatsPayload(payload, bytes / Float32Array.BYTES_PER_ELEMENT) });
      }
    }
    const state: InitialState = {
      blockCount: (tower) => sent[tower].length,
      // eslint-disable-next-line @typescript-eslint/require-await -- it is all there
      async *blocks(tower) {
        yield* sent[tower];
      },
    };
    this.#kept = { reached, state };
  }
}
