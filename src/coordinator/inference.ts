// A trained network at work: workers that hold a checkpoint's weights, batches of pictures in, probabilities out, in order.
// Invariant: whatever ends it, the workers are told, and nothing of it stays behind: their logs go to a temporary folder that is kept, and
// named, only where a worker has failed.

import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { CrosstowerError, UsageError, exitCodeOf, exitCodes } from '../spec/errors.ts';
import { networkFor, planNetwork } from '../spec/network.ts';
import type { ListenerCurve } from '../protocol/curveKeys.ts';
import type { Batch, PictureShape } from '../data/batch.ts';
import type { Manifest } from './checkpoint.ts';
import type { Flag } from './command.ts';
import { stateFrom } from './initialState.ts';
import { localFields, localFlags, localWorkers } from './localChoice.ts';
import type { LocalArguments, LocalChoice } from './localChoice.ts';
import { openModel } from './modelSource.ts';
import type { ModelSource } from './modelSource.ts';
import { readSecurity, securityFields, securityFlags } from './security.ts';
import type { WorkerGroup } from './workerGroup.ts';
import { gatherUnlessStopped, openGroup, withWorkplace } from './workplace.ts';

const group = 'This command:';

/** Flags that `eval` and `predict` have in common. */
export const inferenceFlags = {
  checkpoint: {
    type: 'string',
    requiresArg: true,
    demandOption: true,
    group,
    describe: "A run's folder (its newest checkpoint), or a checkpoint's",
  },
  best: { type: 'boolean', group, describe: 'Of a run: the checkpoint with the best top-1 instead' },
  views: {
    type: 'number',
    choices: [1, 10],
    default: 1,
    group,
    describe: 'The middle crop, or the mean over corners, middle and their mirror images (paper, section 4.1)',
  },
  ...localFlags,
  local: {
    ...localFlags.local,
    describe: 'Where the workers started here compute [default: cpu, both towers in one process; none with --bind]',
  },
  threads: { type: 'number', requiresArg: true, group, describe: 'CPU threads of each worker [default: all cores together]' },
  'one-process': { type: 'boolean', group, describe: 'Both towers in one worker process' },
  bind: { type: 'string', requiresArg: true, group, describe: 'Wait at this address for workers that are started elsewhere' },
  ...securityFlags,
  json: { type: 'boolean', group, describe: 'As JSON' },
} as const satisfies Record<string, Flag>;

export const inferenceFields = {
  checkpoint: z.string().min(1),
  best: z.boolean().optional(),
  views: z.literal([1, 10]),
  ...localFields,
  bind: z.string().optional(),
  ...securityFields,
  json: z.boolean().optional(),
} as const;

type InferenceArguments = LocalArguments & {
  readonly bind?: string | undefined;
  readonly keys?: string | undefined;
  readonly insecure?: boolean | undefined;
};

/**
 * The workers to start, the address to listen at and the keys to do it with: one worker with both towers on the CPU, unless the flags say
 * something else. Throws UsageError where they contradict each other.
 */
export function placeOfWorkers(args: InferenceArguments, say: (line: string) => void): PlaceOfWorkers {
  const isDefault = args.local === undefined && args.bind === undefined;
  const choice = isDefault ? ({ ...args, local: 'cpu', 'one-process': true } as const) : args;
  return { bind: args.bind, curve: readSecurity(choice, args.bind, say), localWorkers: localWorkers(choice, 1) };
}

/** A checkpoint with its manifest and weights. */
export type Checkpoint = ModelSource & { readonly manifest: Manifest };

/** Opens the checkpoint that the flags name; throws UsageError where it is none or a file of weights alone, StorageError where it is broken. */
export async function openCheckpoint(
  { checkpoint, best }: { readonly checkpoint: string; readonly best?: boolean | undefined },
  say: (line: string) => void,
): Promise<Checkpoint> {
  const model = await openModel(best === true ? join(checkpoint, 'checkpoints', 'best') : checkpoint, say);
  const { manifest } = model;
  if (manifest !== undefined) return { ...model, manifest };
  await model.weights.close();
  throw new UsageError(
    `--checkpoint: ${model.path} holds weights alone: name a run's folder or a checkpoint's, which say what they are of`,
  );
}

interface PlaceOfWorkers {
  /** As in `WorkplaceOptions`. */
  readonly bind: string | undefined;
  readonly curve: ListenerCurve | undefined;
  readonly localWorkers: readonly LocalChoice[];
}

export interface InferenceOptions extends PlaceOfWorkers {
  readonly model: Checkpoint;
  readonly packageVersion: string;
  readonly say: (line: string) => void;
  readonly stop: AbortSignal;
}

/** Probabilities [N,K] of each batch, in the order of the batches, some of which are asked for ahead of need. */
export type Classify = (batches: AsyncIterable<Batch>) => AsyncGenerator<Float32Array>;

/** Batches that are loaded or sent beyond the one whose answer is awaited. */
const batchesAhead = 4;
/** Workers wait for pictures as long as somebody takes to name them: the longest time that a timer knows. */
const patientSeconds = 2_000_000;

/**
 * Starts workers with the model's weights and runs `use` with them. `prepare` runs while they load; `use` gets what it made. Throws what ended
 * it, a stop too (exit 75).
 */
export async function withInference<P extends { readonly shape: PictureShape }, T>(
  options: InferenceOptions,
  prepare: () => Promise<P>,
  use: (prepared: P, classify: Classify) => Promise<T>,
): Promise<T> {
  const logs = await mkdtemp(join(tmpdir(), 'crosstower-logs-'));
  const workplace = {
    ...options,
    run: randomUUID(),
    generation: 1,
    logPath: ({ tower }: LocalChoice) => join(logs, `worker-${tower}.log`),
    onListening: (address: string) => {
      if (options.localWorkers.length === 0) options.say(`waiting for workers at ${address}`);
    },
  };
  let keepsLogs = false;
  try {
    return await withWorkplace(workplace, async (place) => {
      const prepared = await prepare();
      const { config, data, classes } = options.model.manifest;
      const plan = planNetwork(networkFor(config), classes.length);
      const facts = {
        // One pair classifies, however many have trained.
        config: { ...config, stepTimeout: patientSeconds, replicas: 1 },
        classes: classes.length,
        picture: prepared.shape,
        mean: data.mean,
        deviation: data.deviation,
        packageVersion: options.packageVersion,
        start: { state: stateFrom(plan, { weights: weightsOf(options.model) }), step: 0 },
      };
      const workers = openGroup(place, facts, options.say);
      return await whileStaffed(workers, options.stop, () =>
        use(prepared, (batches) => classify(batches, workers, 1000 * config.stepTimeout)),
      );
    });
  } catch (error) {
    const exitCode = exitCodeOf(error);
    const isWorkers = ([exitCodes.bug, exitCodes.peerLost, exitCodes.outOfMemory] as number[]).includes(exitCode);
    keepsLogs = isWorkers && options.localWorkers.length > 0;
    const message = error instanceof Error ? error.message : String(error);
    if (!keepsLogs || message.includes(logs) || !(error instanceof CrosstowerError)) throw error;
    throw new CrosstowerError(exitCode, `${message} (the workers' logs: ${logs})`, { cause: error });
  } finally {
    if (!keepsLogs) await rm(logs, { recursive: true, force: true });
  }
}

function weightsOf({ weights }: ModelSource) {
  return { names: new Set(weights.shapes.keys()), read: (name: string) => weights.read(name) };
}

/** Gathers the workers, works with them, and sends them home; a stop at any time ends it. */
async function whileStaffed<T>(workers: WorkerGroup, stop: AbortSignal, work: () => Promise<T>): Promise<T> {
  const anyStop = AbortSignal.any([stop, workers.stopRequested.signal]);
  const stopped = 'stopped before all pictures were classified';
  try {
    await gatherUnlessStopped(workers, anyStop, stopped);
    anyStop.addEventListener('abort', () => {
      workers.fail(new CrosstowerError(exitCodes.stoppedEarly, stopped));
    });
    const result = await workers.during(work());
    await workers.dismiss(exitCodes.done, 'all pictures are classified');
    return result;
  } catch (error) {
    await workers.dismiss(exitCodeOf(error), error instanceof Error ? error.message : String(error));
    throw error;
  }
}

async function* classify(batches: AsyncIterable<Batch>, workers: WorkerGroup, timeoutMs: number): AsyncGenerator<Float32Array> {
  const iterator = batches[Symbol.asyncIterator]();
  let goesOn = Promise.resolve(true);
  let next = 0;
  const ahead: Promise<Float32Array | undefined>[] = [];
  const askFor = (): void => {
    const index = next++;
    const sent = goesOn.then(async (isMore) => {
      const batch = isMore ? await workers.during(iterator.next()) : { done: true as const };
      if (batch.done === true) return false;
      await workers.takeCredit();
      workers.sendBatch({ kind: 'predict', step: 0, epoch: 0, index, traced: false }, batch.value);
      return true;
    });
    goesOn = sent;
    const answer = sent.then((isSent) => (isSent ? workers.collectPredictions(index, timeoutMs) : undefined));
    // Whoever waits for it hears of it.
    answer.catch(() => undefined);
    ahead.push(answer);
  };
  while (ahead.length < batchesAhead) askFor();
  for (let answer = await ahead.shift(); answer !== undefined; answer = await ahead.shift()) {
    askFor();
    yield answer;
  }
}
