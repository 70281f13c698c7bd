// One generation of a worker's life: join the links to other workers, take the state that everybody starts from, then batch after batch.
// Invariant: whatever ends it, nothing of it is left: the links are closed, its tensors are freed, and the next one begins as the first did.

import { performance } from 'node:perf_hooks';
import { PeerLostError, exitCodeOf, exitCodes } from '../spec/errors.ts';
import { sizeOf, towerParameters } from '../spec/layout.ts';
import type { TowerIndex } from '../spec/layout.ts';
import { defaultMicroBatch } from '../spec/counts.ts';
import { networkFor, planNetwork } from '../spec/network.ts';
import { readFloatsPayload } from '../protocol/payloads.ts';
import type { WorkerSocket } from '../protocol/workerSocket.ts';
import { keyedMasks } from '../tower/dropout.ts';
import { chooseKernels } from '../tower/kernels.ts';
import type { Kernels } from '../tower/kernels.ts';
import { Parameters } from '../tower/parameters.ts';
import { preparePictures } from '../tower/pictures.ts';
import type { PictureRule } from '../tower/pictures.ts';
import { dispose, freeingWhatIsLeft } from '../tower/tensorflow.ts';
import { Tower } from '../tower/tower.ts';
import type { Inbox, Received } from './inbox.ts';
import { closeLinks, joinLinks } from './links.ts';
import type { LinkOptions, TowerLinks } from './links.ts';
import { Snapshots } from './snapshots.ts';
import { StepTrace } from './stepTrace.ts';
import { evaluationStep, predictionStep, prepareBatch, trainingStep } from './trainingStep.ts';
import type { PreparedBatch, StepContext, TowerSeat } from './trainingStep.ts';

export type Assignment = Received<'assign'>['header'];

export interface GenerationOptions extends LinkOptions {
  readonly log: (line: string) => void;
}

/** Batches that the coordinator may send ahead. */
const batchCredit = 2;

/** Serves one generation until it ends; throws PeerLostError where it ends by a loss, what ended the inbox, or why this worker cannot go on. */
export async function serveGeneration(
  assignment: Assignment,
  { socket, inbox }: { readonly socket: WorkerSocket; readonly inbox: Inbox },
  options: GenerationOptions,
): Promise<never> {
  const { config } = assignment;
  const { joinTimeoutMs } = options;
  const links = await joinLinks(socket, inbox, assignment, options);
  const trace = new StepTrace(() => performance.now());
  const kernels = chooseKernels();
  const seats = takeSeats(assignment, links, { kernels, trace });
  try {
    await loadState(seats, inbox, assignment, joinTimeoutMs);
    socket.send({ type: 'ready', step: 0, tower: assignment.tower });
    await inbox.take(['begin'], { ms: joinTimeoutMs, what: 'the other tower to be ready' });
    socket.send({ type: 'credit', step: 0, count: batchCredit });

    const snapshots = new Snapshots(socket);
    inbox.answerBlocks((header) => {
      snapshots.send(header);
    });
    return await takeBatches({
      seats,
      inbox,
      socket,
      config,
      snapshots,
      trace,
      breakOff: () => {
        closeLinks(links);
      },
      prepare: (pixels) => preparePictures(pixels, pictureRule(assignment), kernels.shiftPixels),
    });
  } catch (error) {
    const isLoss = exitCodeOf(error) === exitCodes.peerLost && inbox.end === undefined;
    if (isLoss) options.log(`the last messages:\n${recentHeaders(socket, links).join('\n')}`);
    throw error;
  } finally {
    closeLinks(links);
    for (const { tower, parameters } of seats) {
      tower.close();
      parameters.close();
    }
  }
}

/** The last messages on every link of this worker. */
function recentHeaders(socket: WorkerSocket, links: ReadonlyMap<TowerIndex, TowerLinks>): string[] {
  return [
    ...socket.recentHeaders().map((line) => `  coordinator: ${line}`),
    ...[...links.values()].flatMap((tower) => tower.recentHeaders().map((line) => `  ${line}`)),
  ];
}

/** Batch after batch. */
async function takeBatches(context: StepContext): Promise<never> {
  const { inbox, config } = context;
  const take = () => inbox.take(['batch'], { ms: 1000 * config.stepTimeout, what: 'the next batch' });
  let prepared: PreparedBatch | undefined;
  const whileWaiting = (): void => {
    const next = inbox.takeNow(['batch']);
    if (next !== undefined) prepared = prepareBatch(next, context);
  };
  try {
    for (;;) {
      const start = performance.now();
      const batch = prepared ?? prepareBatch(await take(), context);
      prepared = undefined;
      const dataWaitMs = performance.now() - start;
      try {
        await freeingWhatIsLeft(() => {
          if (batch.header.kind === 'evaluate') return evaluationStep(batch, context);
          if (batch.header.kind === 'predict') return predictionStep(batch, context);
          return trainingStep(batch, context, { dataWaitMs, whileWaiting });
        });
      } catch (error) {
        // The step frees its pictures itself, as soon as it can, unless it is broken off.
        dispose(batch.images, batch.labels);
        throw error;
      }
    }
  } finally {
    dispose(prepared?.images, prepared?.labels);
  }
}

/** The towers of this process, with their weights drawn. */
function takeSeats(
  { config, classes }: Assignment,
  links: ReadonlyMap<TowerIndex, TowerLinks>,
  { kernels, trace }: { readonly kernels: Kernels; readonly trace: StepTrace },
): TowerSeat[] {
  const plan = planNetwork(networkFor(config), classes);
  return [...links].map(([index, { exchange, gradientSum }]): TowerSeat => {
    const parameters = new Parameters(towerParameters(plan, index), kernels.update);
    parameters.initialise(config.init, config.seed, index);
    const tower = new Tower({
      plan,
      index,
      kernels,
      parameters,
      exchange,
      gradientSum,
      dropout: { rate: config.dropout, form: config.dropoutForm },
      masks: keyedMasks(config.seed, index, config.dropout),
      microBatch: config.microBatch ?? defaultMicroBatch(plan),
      trainOnly: config.trainOnly,
      observer: trace.observerOf(index),
      now: () => performance.now(),
    });
    return { tower, parameters, bytesSent: () => exchange.bytesSent, bytesSummed: () => gradientSum?.bytesSent ?? 0 };
  });
}

/** Takes the blocks that the coordinator sends over the drawn ones: those of a checkpoint, or pretrained ones. */
async function loadState(
  seats: readonly TowerSeat[],
  inbox: Inbox,
  { sentBlocks }: Assignment,
  joinTimeoutMs: number,
): Promise<void> {
  for (let received = 0; received < sentBlocks; received++) {
    const { header, payload } = await inbox.take(['weights'], { ms: joinTimeoutMs, what: 'the weights to start from' });
    const parameters = seats.find(({ tower }) => tower.index === header.tower)?.parameters;
    const block = parameters?.blocks.find(({ name }) => name === header.name);
    if (parameters === undefined || block === undefined)
      throw new PeerLostError(`the coordinator sent ${header.name} of tower ${String(header.tower)}, which is not held here`);
    parameters.load(block.name, header.of, readFloatsPayload(payload, sizeOf(block.shape)));
  }
}

function pictureRule({ config, mean, deviation }: Assignment): PictureRule {
  const { inputSize, inputPadding } = networkFor(config);
  return {
    size: inputSize,
    padding: inputPadding,
    mean,
    deviation: config.pixels === 'standardized' ? meanOf(deviation) : 1,
    channelOrder: config.channelOrder,
  };
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
