// One training step of one worker, in the order of the paper: pictures, forward, loss, backward, agree, update.
// Invariant: nothing is applied before the coordinator has heard every tower of the step; all apply it, or none does.
// A worker holds one tower, or both: then the two passes run side by side and meet at the crossings.

import { performance } from 'node:perf_hooks';
import type { RunConfig } from '../spec/config.ts';
import { failpoint } from '../spec/failpoint.ts';
import type { ParameterBlock } from '../spec/layout.ts';
import { floatsPayload, readBatchPayload } from '../protocol/payloads.ts';
import { splitFrames } from '../protocol/frames.ts';
import type { WorkerSocket } from '../protocol/workerSocket.ts';
import type { Parameters } from '../tower/parameters.ts';
import type { Pixels } from '../tower/pictures.ts';
import type { Tower } from '../tower/tower.ts';
import { dispose, keep, liveTensors, uploadInt32 } from '../tower/tensorflow.ts';
import type { Tensor } from '../tower/tensorflow.ts';
import type { UpdateRates } from '../tower/updateRule.ts';
import type { Inbox, Received } from './inbox.ts';
import type { Snapshots } from './snapshots.ts';
import type { StepTrace } from './stepTrace.ts';

/** One tower in this process, its weights, and what it has sent to the other and to its replicas. */
export interface TowerSeat {
  readonly tower: Tower;
  readonly parameters: Parameters;
  bytesSent(): number;
  /** To the next replica. */
  bytesSummed(): number;
}

export interface StepContext {
  readonly seats: readonly TowerSeat[];
  readonly inbox: Inbox;
  readonly socket: WorkerSocket;
  readonly config: RunConfig;
  /** Pictures on the device, as conv1 sees them. */
  readonly prepare: (pixels: Pixels) => Tensor;
  readonly snapshots: Snapshots;
  readonly trace: StepTrace;
  /** Closes the links of all towers here, which ends every pass that waits for one. */
  readonly breakOff: () => void;
}

/** Pictures and labels on the device. */
export interface PreparedBatch {
  readonly header: Received<'batch'>['header'];
  readonly images: Tensor;
  readonly labels: Tensor;
}

/** Uploads a batch, and gives its memory back: pixels become pictures on the device. Takes a place among the coordinator's credits again. */
export function prepareBatch(batch: Received<'batch'>, { seats, prepare, socket, trace }: StepContext): PreparedBatch {
  const { header } = batch;
  const { labels, pixels, colour } = readBatchPayload(batch);
  socket.send({ type: 'credit', step: header.step, count: 1 });
  const { tower } = at(seats, 0);
  const prepared = trace.observerOf(tower.index).during({ layer: 'pictures', phase: 'forward' }, () => ({
    header,
    // While the step before is under way, whose leftovers are freed.
    images: keep(prepare({ ...header, bytes: pixels, colour })),
    labels: keep(uploadInt32(labels, [header.count])),
  }));
  socket.release(batch);
  return prepared;
}

/** Trains on one batch, which it frees; `whileWaiting` is done in the time that the other tower and the coordinator take. */
export async function trainingStep(
  { header, images, labels }: PreparedBatch,
  { seats, inbox, socket, config, snapshots, trace, breakOff }: StepContext,
  { dataWaitMs, whileWaiting }: { dataWaitMs: number; whileWaiting: () => void },
): Promise<void> {
  const { step } = header;
  const start = performance.now();
  if (header.traced) trace.begin(seats.map(({ tower }) => tower.index));
  const waitedBefore = seats.map(({ tower }) => tower.exchangeWaitMs);
  const sumWaitedBefore = seats.map(({ tower }) => tower.sumWaitMs);
  const sentBefore = seats.map((seat) => seat.bytesSent());
  const summedBefore = seats.map((seat) => seat.bytesSummed());

  const results = await sideBySide(seats, breakOff, ({ tower }) => tower.computeGradients(step, images, labels, header));
  const computedMs = performance.now() - start;
  dispose(images, labels);
  seats.forEach(({ tower }, i) => {
    const result = at(results, i);
    const { scores, squaredNorm } = result;
    const loss = scores.lossSum / header.of;
    const finite = Number.isFinite(loss) && Number.isFinite(squaredNorm);
    socket.send({ type: 'gradients', step, tower: tower.index, loss, squaredNorm, finite, top1: scores.top1, ms: computedMs });
  });

  const working = performance.now();
  whileWaiting();
  const reported = performance.now();
  const preparedMs = reported - working;
  const decision = await inbox.take(['decision'], {
    ms: 1000 * config.stepTimeout,
    what: `the decision on step ${String(step)}`,
  });
  const updating = performance.now();
  const syncMs = updating - reported;
  if (header.traced)
    seats.forEach(({ tower }) => {
      trace.did(tower.index, 'sync', reported);
    });
  seats.forEach(({ tower }, i) => {
    const { gradients } = at(results, i);
    failpoint(`update.tower${String(tower.index)}`, step);
    if (decision.header.verdict === 'apply') tower.applyGradients(gradients, updateRates(config, decision.header));
    else dispose(...gradients.values());
    failpoint(`updated.tower${String(tower.index)}`, step);
  });
  const updateMs = performance.now() - updating;
  if (decision.header.snapshot) snapshots.take(step, seats);

  seats.forEach((seat, i) => {
    const exchangeWait = seat.tower.exchangeWaitMs - at(waitedBefore, i);
    const sumWait = seat.tower.sumWaitMs - at(sumWaitedBefore, i);
    const compute = Math.max(0, computedMs - exchangeWait - sumWait) + preparedMs;
    socket.send({
      type: 'stepDone',
      step,
      tower: seat.tower.index,
      ms: { dataWait: dataWaitMs, compute, exchangeWait, sync: syncMs + sumWait, update: updateMs },
      bytesSent: seat.bytesSent() - at(sentBefore, i),
      bytesSummed: seat.bytesSummed() - at(summedBefore, i),
      liveTensors: liveTensors(),
    });
  });
  if (!header.traced) return;
  const times = { startMs: start, decidedMs: updating, doneMs: performance.now() };
  for (const [tower, events] of trace.end()) {
    const payload = splitFrames(Buffer.from(JSON.stringify(events)));
    socket.send({ type: 'trace', step, tower, ...times }, payload);
  }
}

/** Scores one evaluation batch, which it frees. */
export async function evaluationStep(
  { header, images, labels }: PreparedBatch,
  { seats, socket, breakOff }: StepContext,
): Promise<void> {
  const results = await sideBySide(seats, breakOff, ({ tower }) => tower.evaluate(header.index, images, labels));
  dispose(images, labels);
  seats.forEach(({ tower }, i) => {
    const { lossSum, top1, top5 } = at(results, i);
    const { step, index, count } = header;
    socket.send({ type: 'evalResult', step, tower: tower.index, index, loss: lossSum, top1, top5, count });
  });
}

/** Sends the probabilities of every class for a batch, which it frees; both towers compute them, tower 0 speaks. */
export async function predictionStep(
  { header, images, labels }: PreparedBatch,
  { seats, socket, breakOff }: StepContext,
): Promise<void> {
  const results = await sideBySide(seats, breakOff, ({ tower }) => tower.predict(header.index, images));
  dispose(images, labels);
  seats.forEach(({ tower }, i) => {
    if (tower.index !== 0) return;
    const { step, index, count } = header;
    const probabilities = at(results, i);
    const classes = probabilities.length / count;
    const answer = { type: 'predictions', step, tower: 0, index, count, classes } as const;
    socket.send(answer, floatsPayload(probabilities));
  });
}

/** One pass for each tower; throws the first failure when all have ended, so that none goes on making tensors which nobody frees. */
async function sideBySide<T>(
  seats: readonly TowerSeat[],
  breakOff: () => void,
  pass: (seat: TowerSeat) => Promise<T>,
): Promise<T[]> {
  const passes = seats.map(pass);
  try {
    return await Promise.all(passes);
  } catch (error) {
    breakOff();
    await Promise.allSettled(passes);
    throw error;
  }
}

/** The rates of each block: biases have factors of their own for rate and decay; the scale, from clipping, is the same for all. */
export function updateRates(
  config: Pick<RunConfig, 'biasLr' | 'biasDecay' | 'momentum' | 'weightDecay'>,
  decision: { learningRate: number; scale: number },
): (block: Pick<ParameterBlock, 'role'>) => UpdateRates {
  return ({ role }) => ({
    learningRate: decision.learningRate * (role === 'bias' ? config.biasLr : 1),
    momentum: config.momentum,
    weightDecay: config.weightDecay * (role === 'bias' ? config.biasDecay : 1),
    gradientScale: decision.scale,
  });
}

function at<T>(values: readonly T[], index: number): T {
  const value = values[index];
  if (value === undefined) throw new Error(`no value at ${String(index)}`);
  return value;
}
