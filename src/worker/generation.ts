// One generation of a worker's life: join the link to the other tower, take the state that everybody starts from, then batch after batch.
// Invariant: whatever ends it, nothing of it is left: the link is closed, its tensors are freed, and the next one begins as the first did.

import { performance } from 'node:perf_hooks';
import { PeerLostError, exitCodeOf, exitCodes } from '../spec/errors.ts';
import type { Exchange } from '../spec/exchange.ts';
import { sizeOf, towerParameters } from '../spec/layout.ts';
import type { TowerIndex } from '../spec/layout.ts';
import { networkFor, planNetwork } from '../spec/network.ts';
import { memoryExchangePair } from '../protocol/memoryExchange.ts';
import { readFloatsPayload } from '../protocol/payloads.ts';
import type { WorkerSocket } from '../protocol/workerSocket.ts';
import { ZeromqExchange } from '../protocol/zeromqExchange.ts';
import { keyedMasks } from '../tower/dropout.ts';
import { chooseKernels } from '../tower/kernels.ts';
import { Parameters } from '../tower/parameters.ts';
import { dispose, freeingWhatIsLeft } from '../tower/tensorflow.ts';
import { Tower } from '../tower/tower.ts';
import type { Inbox, Received } from './inbox.ts';
import { Snapshots } from './snapshots.ts';
import { evaluationStep, predictionStep, prepareBatch, trainingStep } from './trainingStep.ts';
import type { PreparedBatch, StepContext, TowerSeat } from './trainingStep.ts';

export type Assignment = Received<'assign'>['header'];

export interface GenerationOptions {
  readonly joinTimeoutMs: number;
  /** Where tower 0 listens for tower 1, and where tower 1 reaches it; said by the coordinator otherwise. */
  readonly peerAddress?: string;
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
  const exchanges = await joinPeer(socket, inbox, assignment, options);
  const seats = takeSeats(assignment, exchanges);
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
      pictures: {
        size: networkFor(config).inputSize,
        padding: networkFor(config).inputPadding,
        mean: assignment.mean,
        deviation: config.pixels === 'standardized' ? meanOf(assignment.deviation) : 1,
        channelOrder: config.channelOrder,
      },
    });
  } catch (error) {
    const isLoss = exitCodeOf(error) === exitCodes.peerLost && inbox.end === undefined;
    if (isLoss) options.log(`the last messages:\n${recentHeaders(socket, exchanges).join('\n')}`);
    throw error;
  } finally {
    exchanges.forEach((exchange) => {
      exchange.close();
    });
    for (const { tower, parameters } of seats) {
      tower.close();
      parameters.close();
    }
  }
}

/** Of both links, for a post-mortem. */
function recentHeaders(socket: WorkerSocket, exchanges: ReadonlyMap<TowerIndex, Exchange>): string[] {
  const links = [...exchanges.values()].filter((exchange) => exchange instanceof ZeromqExchange);
  return [
    ...socket.recentHeaders().map((line) => `  coordinator: ${line}`),
    ...links.flatMap((link) => link.recentHeaders().map((line) => `  other tower: ${line}`)),
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
      await freeingWhatIsLeft(() => {
        if (batch.header.kind === 'evaluate') return evaluationStep(batch, context);
        if (batch.header.kind === 'predict') return predictionStep(batch, context);
        return trainingStep(batch, context, { dataWaitMs, whileWaiting });
      });
    }
  } finally {
    dispose(prepared?.images, prepared?.labels);
  }
}

/** The link to the other tower, by the tower at this end: one end over ZeroMQ, or both ends in memory. */
async function joinPeer(
  socket: WorkerSocket,
  inbox: Inbox,
  { link, peerToken, run, generation, config }: Assignment,
  { joinTimeoutMs, peerAddress }: GenerationOptions,
): Promise<ReadonlyMap<TowerIndex, Exchange>> {
  const limits = { timeoutMs: 1000 * config.stepTimeout, signal: inbox.signal };
  if (link.role === 'none') {
    const [first, second] = memoryExchangePair(limits);
    return new Map<TowerIndex, Exchange>([
      [0, first],
      [1, second],
    ]);
  }
  const common = { ...limits, run, generation, token: peerToken, joinTimeoutMs };
  if (link.role === 'bind') {
    const exchange = await ZeromqExchange.bind({ ...common, address: peerAddress ?? link.address });
    socket.send({ type: 'link', step: 0, tower: 0, address: exchange.address });
    await exchange.ready;
    return new Map([[0, exchange]]);
  }
  const { header } = await inbox.take(['peer'], { ms: joinTimeoutMs, what: "tower 0's address" });
  const exchange = await ZeromqExchange.connect({ ...common, address: peerAddress ?? header.address });
  await exchange.ready;
  return new Map([[1, exchange]]);
}

/** The towers of this process, with their weights drawn. */
function takeSeats({ config, classes }: Assignment, exchanges: ReadonlyMap<TowerIndex, Exchange>): TowerSeat[] {
  const plan = planNetwork(networkFor(config), classes);
  const kernels = chooseKernels();
  return [...exchanges].map(([index, exchange]): TowerSeat => {
    const parameters = new Parameters(towerParameters(plan, index));
    parameters.initialise(config.init, config.seed, index);
    const tower = new Tower({
      plan,
      index,
      kernels,
      parameters,
      exchange,
      dropout: { rate: config.dropout, form: config.dropoutForm },
      masks: keyedMasks(config.seed, index, config.dropout),
      microBatch: config.microBatch,
      trainOnly: config.trainOnly,
      now: () => performance.now(),
    });
    return { tower, parameters, bytesSent: () => exchange.bytesSent };
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

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
