// The life of a worker: say hello, be assigned a tower, draw or take its weights, join the link to the other tower, then batches until told to stop.
// Invariant: whatever ends it, the coordinator is told why, and the process leaves with the exit code that says so.

import { hostname } from 'node:os';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExitCode } from '../spec/errors.ts';
import { CrosstowerError, OutOfMemoryError, PeerLostError, exitCodeOf, exitCodes } from '../spec/errors.ts';
import { sizeOf, towerParameters } from '../spec/layout.ts';
import type { TowerIndex } from '../spec/layout.ts';
import { defaultMicroBatch } from '../spec/counts.ts';
import { networkFor, planNetwork } from '../spec/network.ts';
import { readFloatsPayload } from '../protocol/payloads.ts';
import { WorkerSocket } from '../protocol/workerSocket.ts';
import { keyedMasks } from '../tower/dropout.ts';
import { chooseKernels } from '../tower/kernels.ts';
import { Parameters } from '../tower/parameters.ts';
import { Tower } from '../tower/tower.ts';
import { Dismissed, Inbox } from './inbox.ts';
import type { Received } from './inbox.ts';
import { closeLinks, joinLinks } from './links.ts';
import type { TowerLinks } from './links.ts';
import { Snapshots } from './snapshots.ts';
import { StepTrace } from './stepTrace.ts';
import { evaluationStep, predictionStep, prepareBatch, trainingStep } from './trainingStep.ts';
import type { PreparedBatch, StepContext, TowerSeat } from './trainingStep.ts';

export interface ServeOptions {
  /** The coordinator's. */
  readonly address: string;
  readonly tower: TowerIndex | 'both' | 'auto';
  readonly replica: number | 'auto';
  /** What this process computes on, in words. */
  readonly device: string;
  readonly packageVersion: string;
  readonly joinTimeoutMs: number;
  /** Where tower 0 listens for tower 1; chosen by the coordinator otherwise. */
  readonly peerAddress?: string;
  /** Aborted by a signal to this process, with the signal's name as its reason. */
  readonly stop: AbortSignal;
  readonly log: (line: string) => void;
}

/** How long a worker with a broken link waits for the coordinator's word. */
const explanationMs = 3000;
/** Batches that the coordinator may send ahead. */
const batchCredit = 2;

/** Serves one run and gives the exit code it ended with. */
export async function serve(options: ServeOptions): Promise<ExitCode> {
  const { address, joinTimeoutMs, stop } = options;
  let socket: WorkerSocket;
  try {
    socket = await WorkerSocket.connect({ address, joinTimeoutMs, signal: stop });
  } catch (error) {
    if (stop.aborted) return exitCodes.stoppedEarly;
    throw error;
  }
  const inbox = new Inbox(socket, address);
  const onStop = (): void => {
    socket.send({ type: 'stopRequested', step: 0, signal: String(stop.reason) });
  };
  stop.addEventListener('abort', onStop, { once: true });
  try {
    return await serveUntilDismissed(socket, inbox, options);
  } catch (error) {
    const reason = await reasonBehind(error, inbox);
    if (reason instanceof Dismissed) {
      socket.send({ type: 'bye', step: 0 });
      options.log(reason.message);
      return reason.exitCode;
    }
    const failure = explained(reason);
    socket.send({ type: 'failed', step: 0, exitCode: exitCodeOf(failure), message: failure.message.slice(0, 4000) });
    throw failure;
  } finally {
    stop.removeEventListener('abort', onStop);
    socket.close();
  }
}

/** A broken link to the other tower mostly has a reason: one that the coordinator is about to tell, or that the coordinator is gone. */
async function reasonBehind(error: unknown, inbox: Inbox): Promise<unknown> {
  if (exitCodeOf(error) !== exitCodes.peerLost) return error;
  await Promise.race([inbox.ended, sleep(explanationMs)]);
  return inbox.signal.aborted ? inbox.signal.reason : error;
}

async function serveUntilDismissed(socket: WorkerSocket, inbox: Inbox, options: ServeOptions): Promise<never> {
  const { packageVersion, device, tower, replica, joinTimeoutMs, log } = options;
  const who = { packageVersion, host: hostname(), pid: process.pid, device, tower, replica };
  socket.send({ type: 'hello', step: 0, ...who });
  const { header: assignment } = await inbox.take(['assign'], { ms: joinTimeoutMs, what: 'a tower to be assigned' });
  log(`assigned ${inWords(assignment)} of run ${assignment.run}, network ${assignment.config.network}`);

  const links = await joinLinks(socket, inbox, assignment, options);
  const trace = new StepTrace(() => performance.now());
  const seats = takeSeats(assignment, links, trace);
  await loadState(seats, inbox, assignment, joinTimeoutMs);
  socket.send({ type: 'ready', step: 0, tower: assignment.tower });
  await inbox.take(['begin'], { ms: joinTimeoutMs, what: 'the other tower to be ready' });
  socket.send({ type: 'credit', step: 0, count: batchCredit });

  const { config } = assignment;
  const snapshots = new Snapshots(socket);
  inbox.answerBlocks((header) => {
    snapshots.send(header);
  });
  const context: StepContext = {
    seats,
    inbox,
    socket,
    config,
    snapshots,
    trace,
    pictures: {
      size: networkFor(config).inputSize,
      padding: networkFor(config).inputPadding,
      mean: assignment.mean,
      deviation: config.pixels === 'standardized' ? meanOf(assignment.deviation) : 1,
      channelOrder: config.channelOrder,
    },
  };
  try {
    return await takeBatches(context);
  } finally {
    closeLinks(links);
    for (const { tower: seated, parameters } of seats) {
      seated.close();
      parameters.close();
    }
  }
}

/** Batch after batch. */
async function takeBatches(context: StepContext): Promise<never> {
  const { inbox, config } = context;
  let prepared: PreparedBatch | undefined;
  for (;;) {
    const start = performance.now();
    const batch =
      prepared ?? prepareBatch(await inbox.take(['batch'], { ms: 1000 * config.stepTimeout, what: 'the next batch' }), context);
    prepared = undefined;
    const dataWaitMs = performance.now() - start;
    if (batch.header.kind === 'evaluate') {
      await evaluationStep(batch, context);
    } else if (batch.header.kind === 'predict') {
      await predictionStep(batch, context);
    } else {
      await trainingStep(batch, context, {
        dataWaitMs,
        whileWaiting: () => {
          const next = inbox.takeNow(['batch']);
          if (next !== undefined) prepared = prepareBatch(next, context);
        },
      });
    }
  }
}

type Assignment = Received<'assign'>['header'];

/** The towers of this process, with their weights drawn. */
function takeSeats({ config, classes }: Assignment, links: ReadonlyMap<TowerIndex, TowerLinks>, trace: StepTrace): TowerSeat[] {
  const plan = planNetwork(networkFor(config), classes);
  const kernels = chooseKernels();
  return [...links].map(([index, { exchange, gradientSum }]): TowerSeat => {
    const parameters = new Parameters(towerParameters(plan, index));
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

function inWords({ tower, replica, config }: Assignment): string {
  const of = config.replicas === 1 ? '' : ` of replica ${String(replica)}`;
  return `tower ${String(tower)}${of}`;
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** TensorFlow says that memory is short in words of its own. */
function explained(error: unknown): Error {
  if (error instanceof CrosstowerError) return error;
  const message = error instanceof Error ? error.message : String(error);
  if (/OOM|ResourceExhausted|RESOURCE_EXHAUSTED|failed to allocate/i.test(message)) {
    return new OutOfMemoryError(`the device has no memory left (${message}): try a smaller --batch or --micro-batch`, {
      cause: error,
    });
  }
  return error instanceof Error ? error : new Error(message);
}
