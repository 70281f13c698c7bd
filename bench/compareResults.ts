// `--compare BASE.json`: which figures moved by more than the noise between the base and this run.
// The noise of a figure is the larger of the two ranges over rounds; a single round says nothing of its noise, so a share of the figure
// stands in for it. Figures that divide by the ceiling or a peer of the same round are what holds across days and machines.

import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { UsageError } from '../src/spec/errors.ts';
import type { Result } from './summary.ts';
import { median } from './statistics.ts';

const figure = z.number();
const peerFigures = z.object({
  tensorflow: figure.optional(),
  tensorflowSameAllocator: figure.optional(),
  pytorch: figure.optional(),
  pytorchSameAllocator: figure.optional(),
});
const roundSchema = z.object({
  imagesPerSecond: figure,
  ceilingImagesPerSecond: figure,
  shareOfCeiling: figure,
  firstStepMs: figure,
  partsMs: z.object({ dataWait: figure, compute: figure, exchangeWait: figure, sync: figure, update: figure }),
  pageFaultsPerStep: figure.optional(),
  peakMemoryBytes: figure.optional(),
  peers: peerFigures,
});
const baseSchema = z.object({
  machine: z.object({ cpu: z.string(), cores: z.int() }),
  network: z.string(),
  batch: z.int(),
  threads: z.int(),
  rounds: z.array(roundSchema).min(1),
});
export type Base = z.infer<typeof baseSchema>;

type Figures = Base['rounds'][number];

type Size = Pick<Base, 'network' | 'batch' | 'threads'>;

interface Rounds {
  readonly rounds: readonly Figures[];
}

interface FigureRule {
  readonly name: string;
  readonly read: (round: Figures) => number | undefined;
  readonly better: 'more' | 'less';
  /** Differences below this are nobody's concern. */
  readonly least?: number;
}

const leastMs = 1;

/** What is compared, in the order of the report. */
const rules: readonly FigureRule[] = [
  { name: 'images/s', read: (round) => round.imagesPerSecond, better: 'more' },
  { name: 'share of the ceiling', read: (round) => round.shareOfCeiling, better: 'more' },
  { name: 'ratio to TensorFlow', read: (round) => ratio(round, 'tensorflow'), better: 'more' },
  { name: 'ratio to TensorFlow, same allocator', read: (round) => ratio(round, 'tensorflowSameAllocator'), better: 'more' },
  { name: 'ratio to PyTorch', read: (round) => ratio(round, 'pytorch'), better: 'more' },
  { name: 'ratio to PyTorch, same allocator', read: (round) => ratio(round, 'pytorchSameAllocator'), better: 'more' },
  { name: 'data wait, ms', read: (round) => round.partsMs.dataWait, better: 'less', least: leastMs },
  { name: 'compute, ms', read: (round) => round.partsMs.compute, better: 'less', least: leastMs },
  { name: 'exchange wait, ms', read: (round) => round.partsMs.exchangeWait, better: 'less', least: leastMs },
  { name: 'sync, ms', read: (round) => round.partsMs.sync, better: 'less', least: leastMs },
  { name: 'update, ms', read: (round) => round.partsMs.update, better: 'less', least: leastMs },
  { name: 'first step, ms', read: (round) => round.firstStepMs, better: 'less', least: 200 },
  { name: 'page faults a step', read: (round) => round.pageFaultsPerStep, better: 'less', least: 50 },
  { name: 'peak memory, MB', read: (round) => (round.peakMemoryBytes ?? NaN) / 1e6, better: 'less', least: 20 },
  { name: 'the machine: ceiling, images/s', read: (round) => round.ceilingImagesPerSecond, better: 'more' },
];

/** Every figure moves this much from run to run. */
const leastNoise = 0.01;
const noiseOfOneRound = 0.05;

/** One figure of both runs. */
export interface Comparison {
  readonly name: string;
  readonly base: number;
  readonly now: number;
  /** (now - base) / base. */
  readonly change: number;
  /** In the figure's own unit; a change below it counts as none. */
  readonly noise: number;
  readonly verdict: 'better' | 'worse' | 'same';
}

/** Reads an earlier --json; throws UsageError where it is none. */
export function readBase(path: string): Base {
  try {
    return baseSchema.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch (error) {
    throw new UsageError(`--compare ${path}: not a result of \`npm run bench -- --json\``, { cause: error });
  }
}

/** Throws UsageError where the two runs measured different things. */
export function checkComparable(base: Size, now: Size): void {
  for (const field of ['network', 'batch', 'threads'] as const) {
    if (base[field] !== now[field])
      throw new UsageError(`--compare: the base was measured with --${field} ${base[field]}, not ${now[field]}`);
  }
}

/** Compares every figure that both runs have. */
export function compareResults(base: Rounds, now: Rounds): Comparison[] {
  return rules.flatMap((rule) => {
    const before = known(base.rounds.map(rule.read));
    const after = known(now.rounds.map(rule.read));
    return before.length === 0 || after.length === 0 ? [] : [compareFigure(rule, before, after)];
  });
}

function compareFigure({ name, better, least = 0 }: FigureRule, before: readonly number[], after: readonly number[]): Comparison {
  const [from, to] = [median(before), median(after)];
  const noise = Math.max(noiseOf(before), noiseOf(after), least);
  const isUp = to > from;
  const verdict = Math.abs(to - from) <= noise ? 'same' : isUp === (better === 'more') ? 'better' : 'worse';
  return { name, base: from, now: to, change: from === 0 ? 0 : (to - from) / from, noise, verdict };
}

function noiseOf(values: readonly number[]): number {
  const share = values.length < 2 ? noiseOfOneRound : leastNoise;
  return Math.max(Math.max(...values) - Math.min(...values), share * Math.abs(median(values)));
}

function ratio(round: Figures, peer: keyof Figures['peers']): number | undefined {
  const theirs = round.peers[peer];
  return theirs === undefined ? undefined : round.imagesPerSecond / theirs;
}

function known(values: readonly (number | undefined)[]): number[] {
  return values.filter((value) => value !== undefined).filter(Number.isFinite);
}

/** What the comparison cannot see by itself. */
export function differencesOfMachine(base: Pick<Base, 'machine'>, { machine }: Pick<Result, 'machine'>): string | undefined {
  const names = [base.machine, machine].map(({ cpu, cores }) => `${cores} cores of ${cpu}`);
  return names[0] === names[1] ? undefined : `the base was measured on another machine: ${names[0] ?? ''}, not ${names[1] ?? ''}`;
}
