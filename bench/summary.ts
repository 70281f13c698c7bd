// From measured rounds to what is said of them: the object that `npm run bench -- --json` prints, and that --compare reads back.
// Every ratio is the median over rounds of two figures of the same round; every speed is the median over the steps of all rounds.

import type { Machine } from './machine.ts';
import type { PeerAbout, PeerName } from './peer.ts';
import { stepParts } from './crosstowerRound.ts';
import type { CrosstowerRound, PartTimes, StepPart } from './crosstowerRound.ts';
import { distribution, mean, median, pairedRatio } from './statistics.ts';
import type { Distribution } from './statistics.ts';

/** What one round measured. */
export interface Round {
  readonly crosstower: CrosstowerRound;
  /** FLOP/s of a matrix product in two processes at once. */
  readonly ceilingFlops: number;
  readonly peers: Readonly<Partial<Record<PeerName, readonly number[]>>>;
}

/** What was measured. */
export interface Subject {
  readonly machine: Machine;
  readonly network: string;
  readonly batch: number;
  /** Of each worker. */
  readonly threads: number;
  readonly warmup: number;
  readonly steps: number;
  /** More flags of `coordinator start`. */
  readonly flags: readonly string[];
  /** FLOP of one training step of one picture. */
  readonly flopsPerImage: number;
  readonly peers: Readonly<Partial<Record<PeerName, PeerAbout>>>;
}

/** One part of the step, in the tower where it takes longest. */
export interface PartShare {
  readonly ms: number;
  /** Of the step. */
  readonly share: number;
  readonly tower: number;
}

export type Breakdown = Readonly<Record<StepPart | 'exchangeWaitAndSync', PartShare>>;

export interface PeerResult extends PeerAbout {
  readonly imagesPerSecond: number;
  readonly stepMs: Distribution;
}

/** One round in figures, for the noise between rounds. */
export interface RoundResult {
  readonly imagesPerSecond: number;
  readonly ceilingImagesPerSecond: number;
  readonly shareOfCeiling: number;
  readonly firstStepMs: number;
  readonly partsMs: PartTimes;
  readonly pageFaultsPerStep?: number;
  readonly peakMemoryBytes?: number;
  readonly peers: Readonly<Partial<Record<PeerName, number>>>;
}

export const ratioNames = {
  tensorflow: 'ratioToTensorflow',
  tensorflowSameAllocator: 'ratioToTensorflowSameAllocator',
  pytorch: 'ratioToPytorch',
  pytorchSameAllocator: 'ratioToPytorchSameAllocator',
} as const satisfies Record<PeerName, string>;

type Ratios = Readonly<Partial<Record<(typeof ratioNames)[PeerName], number>>>;

export interface Result extends Omit<Subject, 'peers' | 'flopsPerImage'>, Ratios {
  readonly imagesPerSecond: number;
  readonly stepMs: Distribution;
  readonly breakdown: Breakdown;
  readonly ceiling: { readonly flops: number; readonly imagesPerSecond: number; readonly flopsPerImage: number };
  readonly shareOfCeiling: number;
  readonly firstStepMs: number;
  readonly pageFaultsPerStep?: number;
  readonly peakMemoryBytes?: number;
  readonly peers: Readonly<Partial<Record<PeerName, PeerResult>>>;
  readonly rounds: readonly RoundResult[];
}

/** Sums up at least one round. */
export function summarise(rounds: readonly Round[], { flopsPerImage, peers, ...subject }: Subject): Result {
  const { batch } = subject;
  const stepMs = distribution(rounds.flatMap(({ crosstower }) => crosstower.stepMs));
  const inFigures = rounds.map((round) => summariseRound(round, { batch, flopsPerImage }));
  const flops = median(rounds.map(({ ceilingFlops }) => ceilingFlops));
  const names = Object.keys(peers) as PeerName[];
  const ownSpeeds = inFigures.map(({ imagesPerSecond }) => imagesPerSecond);
  return {
    ...subject,
    imagesPerSecond: imagesPerSecond(stepMs.median, batch),
    stepMs,
    breakdown: breakDown(
      rounds.flatMap(({ crosstower }) => crosstower.parts),
      meanStepMs(rounds),
    ),
    ceiling: { flops, imagesPerSecond: flops / flopsPerImage, flopsPerImage },
    shareOfCeiling: median(inFigures.map(({ shareOfCeiling }) => shareOfCeiling)),
    firstStepMs: median(inFigures.map(({ firstStepMs }) => firstStepMs)),
    ...known('pageFaultsPerStep', medianOfKnown(inFigures.map(({ pageFaultsPerStep }) => pageFaultsPerStep))),
    ...known('peakMemoryBytes', maximumOfKnown(inFigures.map(({ peakMemoryBytes }) => peakMemoryBytes))),
    peers: Object.fromEntries(
      names.map((name) => {
        const times = distribution(rounds.flatMap((round) => round.peers[name] ?? []));
        return [name, { ...peers[name], imagesPerSecond: imagesPerSecond(times.median, batch), stepMs: times }];
      }),
    ),
    ...Object.fromEntries(
      names.map((name) => [
        ratioNames[name],
        pairedRatio(
          ownSpeeds,
          inFigures.map((round) => round.peers[name] ?? NaN),
        ),
      ]),
    ),
    rounds: inFigures,
  };
}

/** Each part's mean over steps, for means add up to a step and medians do not; in the tower where it is largest. */
export function breakDown(parts: readonly (readonly PartTimes[])[], stepMs: number): Breakdown {
  const worst = (time: (times: PartTimes) => number): PartShare => {
    const towers = parts[0]?.map((_, tower) => mean(parts.flatMap((step) => step[tower] ?? []).map(time))) ?? [];
    const ms = Math.max(...towers);
    return { ms, share: ms / stepMs, tower: towers.indexOf(ms) };
  };
  return {
    dataWait: worst(({ dataWait }) => dataWait),
    compute: worst(({ compute }) => compute),
    exchangeWait: worst(({ exchangeWait }) => exchangeWait),
    sync: worst(({ sync }) => sync),
    update: worst(({ update }) => update),
    exchangeWaitAndSync: worst(({ exchangeWait, sync }) => exchangeWait + sync),
  };
}

function summariseRound({ crosstower, ceilingFlops, peers }: Round, of: { batch: number; flopsPerImage: number }): RoundResult {
  const speed = imagesPerSecond(median(crosstower.stepMs), of.batch);
  const ceilingImagesPerSecond = ceilingFlops / of.flopsPerImage;
  const parts = breakDown(crosstower.parts, mean(crosstower.stepMs));
  return {
    imagesPerSecond: speed,
    ceilingImagesPerSecond,
    shareOfCeiling: speed / ceilingImagesPerSecond,
    firstStepMs: crosstower.firstStepMs,
    partsMs: Object.fromEntries(stepParts.map((part) => [part, parts[part].ms])) as Record<StepPart, number>,
    ...known('pageFaultsPerStep', crosstower.pageFaultsPerStep),
    ...known('peakMemoryBytes', crosstower.peakMemoryBytes),
    peers: Object.fromEntries(Object.entries(peers).map(([name, stepMs]) => [name, imagesPerSecond(median(stepMs), of.batch)])),
  };
}

function imagesPerSecond(stepMs: number, batch: number): number {
  return (1000 * batch) / stepMs;
}

function meanStepMs(rounds: readonly Round[]): number {
  return mean(rounds.flatMap(({ crosstower }) => crosstower.stepMs));
}

function known<Key extends string>(key: Key, value: number | undefined): Partial<Record<Key, number>> {
  return value === undefined ? {} : ({ [key]: value } as Record<Key, number>);
}

function medianOfKnown(values: readonly (number | undefined)[]): number | undefined {
  const found = values.filter((value) => value !== undefined);
  return found.length === 0 ? undefined : median(found);
}

function maximumOfKnown(values: readonly (number | undefined)[]): number | undefined {
  const found = values.filter((value) => value !== undefined);
  return found.length === 0 ? undefined : Math.max(...found);
}
