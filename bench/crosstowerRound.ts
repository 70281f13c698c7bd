// One round of crosstower: a real `coordinator start --local cpu` with two workers on synthetic pictures, read through its metrics.jsonl.
// Every round is a run of its own with its own warm-up: its processes cannot be halted between rounds, since the heartbeats of their links
// would miss (they are given up after 10 s), and the spread between rounds then holds what differs from one start to the next.
// The run is ended by force after its last measured step: neither an evaluation nor a saved model belongs to what is measured.

import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { CrosstowerError, exitCodes } from '../src/spec/errors.ts';
import type { NetworkSpec } from '../src/spec/network.ts';
import { leafUsage } from './processTree.ts';
import type { ProcessUsage } from './processTree.ts';
import type { ProcessKeeper } from './processKeeper.ts';

/** What a tower's step consists of. */
export const stepParts = ['dataWait', 'compute', 'exchangeWait', 'sync', 'update'] as const;
export type StepPart = (typeof stepParts)[number];

/** Milliseconds of each part. */
export type PartTimes = Readonly<Record<StepPart, number>>;

const milliseconds = z.number().min(0);
const stepSchema = z.object({
  kind: z.literal('step'),
  step: z.int(),
  imagesPerSecond: z.number().positive(),
  ms: z
    .array(
      z.object({
        dataWait: milliseconds,
        compute: milliseconds,
        exchangeWait: milliseconds,
        sync: milliseconds,
        update: milliseconds,
      }),
    )
    .min(1),
  liveTensors: z.array(z.int()).min(1),
});
const recordSchema = z.union([stepSchema, z.object({ kind: z.literal('eval') })]);
export type StepRecord = z.infer<typeof stepSchema>;

/** The measured steps of one run. */
export interface CrosstowerRound {
  readonly stepMs: readonly number[];
  /** By step, then by tower. */
  readonly parts: readonly (readonly PartTimes[])[];
  /** From the command to the end of the first step. */
  readonly firstStepMs: number;
  /** Of the worker that has most. Unknown where there is no /proc. */
  readonly pageFaultsPerStep: number | undefined;
  readonly peakMemoryBytes: number | undefined;
}

export interface CrosstowerOptions {
  readonly network: NetworkSpec;
  readonly classes: number;
  readonly batch: number;
  readonly steps: number;
  readonly warmup: number;
  readonly threads: number;
  /** More flags of `coordinator start`; they win over the benchmark's own. */
  readonly flags: readonly string[];
  /** Called ten times a second with the run's folder and the steps that are done. */
  readonly watch?: (runFolder: string, stepsDone: number) => void;
}

export const coordinatorCommand = fileURLToPath(new URL('../src/coordinator/cli.js', import.meta.url));
const pollMs = 100;
/** Steps that a run may do while nobody has looked yet. */
const spareSteps = 20;
const picturesInBatches = 8;
const keptCharacters = 3000;

/** Runs it; throws CrosstowerError with the coordinator's last words if it ends before its time. */
export async function crosstowerRound(keeper: ProcessKeeper, options: CrosstowerOptions): Promise<CrosstowerRound> {
  const { warmup, steps } = options;
  const runFolder = join(keeper.temporaryFolder(), 'run');
  const startMs = performance.now();
  const run = keeper.spawn(process.execPath, [coordinatorCommand, ...coordinatorArguments(options, runFolder)], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  for (const stream of [run.child.stdout, run.child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-keptCharacters);
    });
  }
  let ending: string | undefined;
  void run.ended.then((how) => {
    ending = how;
  });

  const metrics = join(runFolder, 'metrics.jsonl');
  const usage = (): readonly ProcessUsage[] => (run.child.pid === undefined ? [] : leafUsage(run.child.pid));
  let warm: { readonly steps: number; readonly usage: readonly ProcessUsage[] } | undefined;
  let firstStepMs: number | undefined;
  for (;;) {
    await sleep(pollMs);
    const wasOver = ending; // Asked before the records are counted, so that none of a run that has just ended is missed.
    const done = countLines(metrics);
    options.watch?.(runFolder, done);
    if (done > 0) firstStepMs ??= performance.now() - startMs;
    if (done >= warmup) warm ??= { steps: done, usage: usage() };
    if (firstStepMs !== undefined && warm !== undefined && done >= warmup + steps) {
      const end = usage();
      await keeper.kill(run);
      const records = readSteps(metrics).slice(warmup, warmup + steps);
      return {
        stepMs: records.map(({ imagesPerSecond }) => (1000 * options.batch) / imagesPerSecond),
        parts: records.map(({ ms }) => ms),
        firstStepMs,
        pageFaultsPerStep: faultsPerStep(warm.usage, end, done - warm.steps),
        peakMemoryBytes: end.length === 0 ? undefined : Math.max(...end.map(({ peakMemoryBytes }) => peakMemoryBytes)),
      };
    }
    if (wasOver !== undefined) {
      throw new CrosstowerError(
        exitCodes.peerLost,
        `coordinator start ended before its time (${wasOver}); it said:\n${said.trim()}`,
      );
    }
  }
}

/** The command line of the run; a flag that the user gave replaces the benchmark's. */
export function coordinatorArguments(options: CrosstowerOptions, runFolder: string): string[] {
  const { network, classes, batch, steps, warmup, threads, flags } = options;
  const own: Readonly<Record<string, string>> = {
    '--local': 'cpu',
    '--run-dir': runFolder,
    '--network': network.name,
    // Whole batches only, and few test pictures: the epochs of the data do not matter.
    '--data': `synthetic:${network.inputSize},${classes},${picturesInBatches * batch}`,
    '--augment': 'none',
    '--batch': String(batch),
    '--threads': String(threads),
    '--epochs': '1000000',
    '--eval-every': '1000000',
    // Otherwise every epoch, which is a few steps here.
    '--checkpoint-every': '1000000',
    '--steps': String(warmup + steps + spareSteps),
  };
  const given = new Set(flags.map((flag) => flag.split('=')[0]));
  return ['start', ...Object.entries(own).flatMap(([flag, value]) => (given.has(flag) ? [] : [flag, value])), ...flags];
}

/** Page faults in a step, of the worker that has most. */
function faultsPerStep(before: readonly ProcessUsage[], after: readonly ProcessUsage[], steps: number): number | undefined {
  const rates = after.flatMap(({ pid, minorFaults }) => {
    const earlier = before.find((usage) => usage.pid === pid);
    return earlier === undefined ? [] : [(minorFaults - earlier.minorFaults) / steps];
  });
  return rates.length === 0 || steps === 0 ? undefined : Math.max(...rates);
}

/** Whole lines of a file that grows; none while it is not there. Its size is looked at first: a poll must cost the run nothing. */
function countLines(path: string): number {
  const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  return size === 0 ? 0 : readFileSync(path, 'utf8').split('\n').length - 1;
}

/** The steps that metrics.jsonl tells of; none while it is not there. */
export function readSteps(path: string): StepRecord[] {
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => recordSchema.parse(JSON.parse(line))).filter((record) => record.kind === 'step');
}
