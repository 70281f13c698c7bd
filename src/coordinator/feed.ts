// Which batches the workers get, in which order: the training batches of an epoch, then the test split, and so on; loaded ahead of need.
// Invariant: what is sent is a function of the step alone; how far ahead it is loaded changes nothing.

import type { RunConfig } from '../spec/config.ts';
import { stepsPerEpoch } from '../spec/schedule.ts';
import type { Batch, DataSource } from '../data/batch.ts';
import { createSampler } from '../data/sampler.ts';
import { beginAhead } from './ahead.ts';
import type { StepTraces } from './stepTraces.ts';
import type { WorkerGroup } from './workerGroup.ts';

/** One batch of the run. */
export interface WorkItem {
  readonly kind: 'train' | 'evaluate';
  /** Counted from 1; an evaluation belongs to the step before it. */
  readonly step: number;
  readonly epoch: number;
  /** Of an evaluation's batches. */
  readonly index: number;
  readonly indices: Uint32Array;
}

/** Batches that are loaded before somebody asks for them. */
const loadAhead = 3;

/** Steps after which the test split is scored: at every --eval-every epochs, and at the end. */
export function isEvaluated(
  step: number,
  config: RunConfig,
  { trainCount, lastStep }: { trainCount: number; lastStep: number },
): boolean {
  return step === lastStep || step % (config.evalEvery * stepsPerEpoch(config, trainCount)) === 0;
}

/** The batches of one evaluation, in order. */
export function evaluationItems(step: number, config: RunConfig, testCount: number): WorkItem[] {
  return Array.from({ length: Math.ceil(testCount / config.evalBatch) }, (_, index) => ({
    kind: 'evaluate',
    step,
    epoch: 0,
    index,
    indices: Uint32Array.from(
      { length: Math.min(config.evalBatch, testCount - index * config.evalBatch) },
      (_, i) => index * config.evalBatch + i,
    ),
  }));
}

/** All batches from one step to another, both included. */
export function* workItems(
  config: RunConfig,
  counts: DataSource['counts'],
  { firstStep, lastStep }: { firstStep: number; lastStep: number },
): Generator<WorkItem> {
  const sample = createSampler({ ...config, count: counts.train });
  // A run that goes on owes the evaluation of the step it starts from.
  const from = firstStep - 1;
  if (from > 0 && isEvaluated(from, config, { trainCount: counts.train, lastStep }))
    yield* evaluationItems(from, config, counts.test);
  for (let step = firstStep; step <= lastStep; step++) {
    yield { kind: 'train', step, index: 0, ...sample(step - 1) };
    if (isEvaluated(step, config, { trainCount: counts.train, lastStep })) yield* evaluationItems(step, config, counts.test);
  }
}

/** Replicas that get a part of a batch: all, unless it has fewer pictures, as only an evaluation's may. */
export function replicasFor(pictures: number, { replicas }: Pick<RunConfig, 'replicas'>): number {
  return Math.min(pictures, replicas);
}

/** Loads and sends items as the workers grant credit, until they are sent; rejects once `signal` is aborted. */
export async function feed(
  items: Iterable<WorkItem>,
  {
    config,
    data,
    group,
    signal,
    traces,
  }: { config: RunConfig; data: DataSource; group: WorkerGroup; signal: AbortSignal; traces?: StepTraces | undefined },
): Promise<void> {
  const loads = loadsOf(items, data, traces);
  for await (const { item, batch } of beginAhead(loads, loadAhead - 1)) {
    const { kind, step, epoch, index, indices } = item;
    signal.throwIfAborted();
    await group.takeCredit(replicasFor(indices.length, config));
    signal.throwIfAborted();
    const traced = kind === 'train' && traces?.isTraced(step) === true;
    group.sendBatch({ kind, step, epoch, index, traced }, batch, () => {
      data.release(batch);
    });
  }
}

function* loadsOf(
  items: Iterable<WorkItem>,
  data: DataSource,
  traces: StepTraces | undefined,
): Generator<() => Promise<{ item: WorkItem; batch: Batch }>> {
  for (const item of items) {
    const { kind, epoch, indices, step } = item;
    const load = (): Promise<Batch> => data.load({ split: kind === 'train' ? 'train' : 'test', epoch, indices });
    yield async () => ({ item, batch: await (traces?.timed(`load batch ${String(step)}`, load) ?? load()) });
  }
}
