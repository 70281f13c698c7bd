// The run as the coordinator sees it, step by step: collect every tower's gradients, decide, record; now and then score the test split.

import type { RunConfig } from '../spec/config.ts';
import { initialScheduleState, learningRateAt, scheduleAfterEvaluation, stepsPerEpoch, totalSteps } from '../spec/schedule.ts';
import type { ToCoordinator } from '../protocol/messages.ts';
import type { DataSource } from '../data/batch.ts';
import { decide } from './decision.ts';
import { evaluationItems, feed, isEvaluated, workItems } from './feed.ts';
import { percent } from './progress.ts';
import type { Progress } from './progress.ts';
import type { RunFolder } from './runFolder.ts';
import type { WorkerGroup } from './workerGroup.ts';

export interface TrainingOptions {
  readonly config: RunConfig;
  readonly data: DataSource;
  readonly group: WorkerGroup;
  readonly folder: RunFolder;
  readonly progress: Progress;
  /** Aborted: finish the step and end. */
  readonly stop: AbortSignal;
  /** Monotonic milliseconds. */
  readonly now: () => number;
}

export interface TrainingResult {
  readonly stepsDone: number;
  /** Of the last evaluation. */
  readonly scores: EvaluationScores | undefined;
  readonly bytesPerStep: number;
  readonly imagesPerSecond: number;
}

export interface EvaluationScores {
  readonly top1: number;
  readonly top5: number;
  readonly loss: number;
}

/** Trains until the config's end or a stop; throws what the workers or the data cannot recover from. */
export async function train(options: TrainingOptions): Promise<TrainingResult> {
  const { config, data, group, folder, progress, stop, now } = options;
  const lastStep = totalSteps(config, data.counts.train);
  const feeding = new AbortController();
  const fed = feed(workItems(config, data.counts, { firstStep: 1, lastStep }), { data, group, signal: feeding.signal });
  fed.catch((error: unknown) => {
    if (!feeding.signal.aborted) group.fail(error instanceof Error ? error : new Error(String(error)));
  });

  let scores: EvaluationScores | undefined;
  let schedule = initialScheduleState;
  let skippedBefore = 0;
  let bytesPerStep = 0;
  let stepsDone = 0;
  const rates: number[] = [];
  let before = now();
  for (let step = 1; step <= lastStep && !stop.aborted; step++) {
    const reports = (await group.collect('gradients', step)).map(({ header }) => header);
    const learningRate = learningRateAt(config, step - 1, data.counts.train, schedule);
    const decision = decide(reports, config, { step, learningRate, skippedBefore });
    group.broadcast({ type: 'decision', step, ...decision, snapshot: false });
    skippedBefore = decision.verdict === 'skip' ? skippedBefore + 1 : 0;
    const done = (await group.collect('stepDone', step)).map(({ header }) => header);
    stepsDone = step;

    const seconds = (now() - before) / 1000;
    before = now();
    const record = stepRecord(step, reports, done, { config, trainCount: data.counts.train, seconds });
    rates.push(record.imagesPerSecond);
    bytesPerStep = record.bytesExchanged;
    folder.record({ kind: 'step', ...record, learningRate, verdict: decision.verdict, scale: decision.scale });
    if (decision.verdict === 'skip') progress.say(`step ${String(step)}: loss or gradient not finite, skipped by all towers`);
    const exchangeWait = Math.max(...record.ms.map((part) => part.exchangeWait)) / (1000 * seconds);
    progress.step({ ...record, totalSteps: lastStep, learningRate, exchangeWait });

    if (isEvaluated(step, config, { trainCount: data.counts.train, lastStep })) {
      const evaluated = await evaluate(step, options);
      if (evaluated === undefined) break;
      scores = evaluated;
      schedule = scheduleAfterEvaluation(config, schedule, scores);
      folder.record({ kind: 'eval', step, epoch: record.epoch, ...scores });
      progress.say(
        `epoch ${String(record.epoch)}  test top-1 ${percent(scores.top1)}  top-5 ${percent(scores.top5)}  loss ${scores.loss.toFixed(3)}`,
      );
      before = now();
    }
  }
  feeding.abort();
  return { stepsDone, scores, bytesPerStep, imagesPerSecond: median(rates) };
}

/** Scores the test split, whose batches the feed has sent after this step; nothing where the run was stopped meanwhile. */
async function evaluate(step: number, { config, data, group, stop }: TrainingOptions): Promise<EvaluationScores | undefined> {
  let [loss, top1, top5, count] = [0, 0, 0, 0];
  for (const { index } of evaluationItems(step, config, data.counts.test)) {
    if (stop.aborted) return undefined;
    // Both towers hold the same logits: tower 0 speaks for both.
    const [result] = await group.collect('evalResult', step, index);
    if (result === undefined) continue;
    loss += result.header.loss;
    top1 += result.header.top1;
    top5 += result.header.top5;
    count += result.header.count;
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
  // Both towers hold the same logits: tower 0 speaks for both.
  const [report] = reports;
  return {
    step,
    epoch: Math.floor((step - 1) / steps) + 1,
    loss: report?.loss ?? NaN,
    top1: (report?.top1 ?? 0) / count,
    imagesPerSecond: count / seconds,
    bytesExchanged: done.reduce((sum, { bytesSent }) => sum + bytesSent, 0),
    ms: done.map((header) => header.ms),
  };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}
