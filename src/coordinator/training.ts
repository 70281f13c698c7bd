// The run as the coordinator sees it, step by step: collect every tower's gradients, decide, record; now and then score the test split.

import type { RunConfig } from '../spec/config.ts';
import { learningRateAt, scheduleAfterEvaluation, stepsPerEpoch, totalSteps } from '../spec/schedule.ts';
import type { ToCoordinator } from '../protocol/messages.ts';
import type { DataSource } from '../data/batch.ts';
import type { ManifestFacts } from './checkpoint.ts';
import type { Commits } from './commits.ts';
import { decide } from './decision.ts';
import { evaluationItems, feed, isEvaluated, replicasFor, workItems } from './feed.ts';
import { percent } from './progress.ts';
import type { Progress } from './progress.ts';
import type { RunFolder } from './runFolder.ts';
import type { RunState } from './runStart.ts';
import type { StepTraces } from './stepTraces.ts';
import type { WorkerGroup } from './workerGroup.ts';

export interface TrainingOptions {
  readonly config: RunConfig;
  readonly data: DataSource;
  readonly group: WorkerGroup;
  readonly folder: RunFolder;
  readonly commits: Commits;
  readonly progress: Progress;
  /** Where the run stands before its first step here. */
  readonly from: RunState;
  /** What every checkpoint of this generation says beside the state. */
  readonly facts: Omit<ManifestFacts, keyof RunState | 'metricsBytes'>;
  /** What is to be known of where the time goes, if anything. */
  readonly traces?: StepTraces | undefined;
  /** Aborted: finish the step, save and end. */
  readonly stop: AbortSignal;
  /** Monotonic milliseconds. */
  readonly now: () => number;
}

export interface TrainingResult {
  readonly stepsDone: number;
  /** Of the last evaluation. */
  readonly scores: EvaluationScores | undefined;
  readonly bytesPerStep: number;
  /** Around the rings of the replicas; 0 with one. */
  readonly bytesSummedPerStep: number;
  /** Median over the steps that were done here, which may be none where a run goes on. */
  readonly imagesPerSecond: number;
  readonly stepsHere: number;
}

export interface EvaluationScores {
  readonly top1: number;
  readonly top5: number;
  readonly loss: number;
}

/**
 * Trains until the config's end or a stop, and writes what is due; throws what ends this generation of the workers, and what the data or the
 * disk cannot recover from.
 */
export async function train(options: TrainingOptions): Promise<TrainingResult> {
  const { config, data, group, traces } = options;
  const lastStep = totalSteps(config, data.counts.train);
  const feeding = new AbortController();
  const items = workItems(config, data.counts, { firstStep: options.from.step + 1, lastStep });
  feed(items, { config, data, group, traces, signal: feeding.signal }).catch((error: unknown) => {
    if (!feeding.signal.aborted) group.fail(error instanceof Error ? error : new Error(String(error)));
  });
  try {
    return await trainSteps(options, lastStep);
  } finally {
    feeding.abort();
  }
}

async function trainSteps(options: TrainingOptions, lastStep: number): Promise<TrainingResult> {
  const { config, data, group, folder, commits, progress, facts, traces, stop, now } = options;
  const span = { trainCount: data.counts.train, lastStep };
  let state = options.from;
  let scores: EvaluationScores | undefined;
  let bytesPerStep = 0;
  let bytesSummedPerStep = 0;
  const rates: number[] = [];
  const score = async (): Promise<boolean> => {
    if (state.step === 0 || !isEvaluated(state.step, config, span)) return true;
    const evaluated = await evaluate(state.step, options);
    if (evaluated === undefined) return false;
    scores = evaluated;
    state = { ...state, schedule: scheduleAfterEvaluation(config, state.schedule, scores) };
    const { step } = state;
    const epoch = epochOf(step, config, data.counts.train);
    folder.record({ kind: 'eval', step, epoch, ...scores });
    progress.say(
      `epoch ${String(epoch)}  test top-1 ${percent(scores.top1)}  top-5 ${percent(scores.top5)}  loss ${scores.loss.toFixed(3)}`,
    );
    if (state.best === undefined || scores.top1 > state.best.top1) {
      state = { ...state, best: { step, top1: scores.top1 } };
      commits.markBest(step);
    }
    return true;
  };

  let goesOn = await score();
  let before = now();
  while (goesOn && state.step < lastStep) {
    const step = state.step + 1;
    const collecting = now();
    const reports = (await group.collect('gradients', step)).map(({ header }) => header);
    const reported = now();
    const learningRate = learningRateAt(config, step - 1, data.counts.train, state.schedule);
    const decision = decide(reports, config, { step, learningRate, skippedBefore: state.skippedBefore });
    // A stop ends the run with the step that is decided on next; an evaluation can be stopped, for the step before it is saved.
    goesOn = !stop.aborted;
    const isSaved = !goesOn || isCheckpointed(step, config, span) || isEvaluated(step, config, span);
    const isKept = !isSaved && config.commitEvery > 0 && step % config.commitEvery === 0;
    if (isSaved || isKept) await commits.settled();
    group.sendDecision({ type: 'decision', step, ...decision, snapshot: isSaved || isKept });
    const decided = now();
    const done = (await group.collect('stepDone', step)).map(({ header }) => header);
    if (traces?.isTraced(step) === true) {
      const times = { collecting, reported, decided, done: now() };
      traces.add({ step, times, workers: await group.collect('trace', step) });
    }
    state = { ...state, step, skippedBefore: decision.verdict === 'skip' ? state.skippedBefore + 1 : 0 };

    const seconds = (now() - before) / 1000;
    before = now();
    const record = stepRecord(step, reports, done, { config, trainCount: data.counts.train, seconds });
    rates.push(record.imagesPerSecond);
    bytesPerStep = record.bytesExchanged;
    bytesSummedPerStep = record.bytesSummed ?? 0;
    folder.record({ kind: 'step', ...record, learningRate, verdict: decision.verdict, scale: decision.scale });
    if (decision.verdict === 'skip') progress.say(`step ${String(step)}: loss or gradient not finite, skipped by all towers`);
    const exchangeWait = Math.max(...record.ms.map((part) => part.exchangeWait)) / (1000 * seconds);
    progress.step({ ...record, totalSteps: lastStep, learningRate, exchangeWait });

    const reached = { ...state, metricsBytes: folder.metricsBytes };
    if (isSaved) {
      folder.syncMetrics();
      commits.beginCheckpoint({ ...facts, ...reached }, group.collectSnapshot(step));
    } else if (isKept) {
      commits.beginKeeping(reached, group.collectSnapshot(step));
    }
    if (goesOn && isEvaluated(step, config, span)) {
      goesOn = await score();
      before = now();
    }
  }
  await commits.finish();
  const imagesPerSecond = median(rates);
  return { stepsDone: state.step, scores, bytesPerStep, bytesSummedPerStep, imagesPerSecond, stepsHere: rates.length };
}

/** Whether a checkpoint is due after this step: every --checkpoint-every steps, or every epoch. */
function isCheckpointed(step: number, config: RunConfig, { trainCount }: { trainCount: number }): boolean {
  return step % (config.checkpointEvery ?? stepsPerEpoch(config, trainCount)) === 0;
}

/** Counted from 1. */
function epochOf(step: number, config: RunConfig, trainCount: number): number {
  return Math.floor((step - 1) / stepsPerEpoch(config, trainCount)) + 1;
}

/** Scores the test split, whose batches the feed has sent after this step; nothing where the run was stopped meanwhile. */
async function evaluate(step: number, { config, data, group, stop }: TrainingOptions): Promise<EvaluationScores | undefined> {
  let [loss, top1, top5, count] = [0, 0, 0, 0];
  for (const { index, indices } of evaluationItems(step, config, data.counts.test)) {
    if (stop.aborted) return undefined;
    const results = await group.collect('evalResult', step, { index, replicas: replicasFor(indices.length, config) });
    for (const { header } of results) {
      // Both towers of a replica hold the same logits: tower 0 speaks for both.
      if (header.tower !== 0) continue;
      loss += header.loss;
      top1 += header.top1;
      top5 += header.top5;
      count += header.count;
    }
  }
  return { loss: loss / count, top1: top1 / count, top5: top5 / count };
}

type Header<K extends ToCoordinator['type']> = Extract<ToCoordinator, { type: K }>;

/** What metrics.jsonl says of a step. */
function stepRecord(
  step: number,
  reports: readonly Header<'gradients'>[],
  done: readonly Header<'stepDone'>[],
  { config, trainCount, seconds }: { config: RunConfig; trainCount: number; seconds: number },
) {
  const steps = stepsPerEpoch(config, trainCount);
  const inEpoch = (step - 1) % steps;
  const count = Math.min(config.batch, trainCount - inEpoch * config.batch);
  // Both towers of a replica hold the same logits: tower 0 speaks for both.
  const parts = reports.filter(({ tower }) => tower === 0);
  return {
    step,
    epoch: epochOf(step, config, trainCount),
    loss: parts.reduce((sum, { loss }) => sum + loss, 0),
    top1: parts.reduce((sum, { top1 }) => sum + top1, 0) / count,
    imagesPerSecond: count / seconds,
    bytesExchanged: done.reduce((sum, { bytesSent }) => sum + bytesSent, 0),
    ...(config.replicas === 1 ? {} : { bytesSummed: done.reduce((sum, { bytesSummed }) => sum + bytesSummed, 0) }),
    ms: done.map((header) => header.ms),
    liveTensors: done.map((header) => header.liveTensors),
  };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}
