// The tables of `npm run bench`, for people.

import type { Comparison } from './compareResults.ts';
import { stepParts } from './crosstowerRound.ts';
import { peerNames } from './peer.ts';
import type { PeerName } from './peer.ts';
import { spread } from './statistics.ts';
import { ratioNames } from './summary.ts';
import type { Result, RoundResult } from './summary.ts';
import { percent, textTable, threeDigits } from '../src/coordinator/textTable.ts';

/** What follows the framework's own name and version. */
const titles = {
  tensorflow: '',
  tensorflowSameAllocator: ", the workers' allocator",
  pytorch: '',
  pytorchSameAllocator: ", the workers' allocator",
} as const satisfies Record<PeerName, string>;

const partTitles = {
  dataWait: 'data wait',
  compute: 'compute',
  exchangeWait: 'exchange wait',
  sync: 'sync',
  update: 'update',
  exchangeWaitAndSync: 'exchange wait + sync',
} as const;

/** The whole report. */
export function throughputReport(result: Result): string {
  return [heading(result), speeds(result), breakdown(result), resources(result)].join('\n\n');
}

function heading({ machine, network, batch, threads, steps, warmup, rounds, flags }: Result): string {
  const plural = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`;
  return [
    `${network}, batch ${batch}, two workers of ${plural(threads, 'thread')}${flags.length === 0 ? '' : `, ${flags.join(' ')}`}`,
    `${plural(rounds.length, 'round')} of ${plural(steps, 'step')} after ${warmup} of warm-up`,
    `${machine.cores} cores of ${machine.cpu}, ${(machine.memoryBytes / 2 ** 30).toFixed(0)} GiB, Node ${machine.node}, ` +
      `TensorFlow ${machine.tensorflow}, ${machine.allocator}`,
  ].join('\n');
}

function speeds(result: Result): string {
  const { rounds, stepMs, ceiling } = result;
  const row = (name: string, speed: number, read: (round: RoundResult) => number, ratio: string, ms: string): string[] => {
    const noise = rounds.length < 2 ? '' : `+-${percent(spread(rounds.map(read)))}`;
    return [name, threeDigits(speed), noise, ms, ratio];
  };
  const milliseconds = ({ median, p10, p90 }: Result['stepMs']): string =>
    `${threeDigits(median)} (${threeDigits(p10)}..${threeDigits(p90)})`;
  const peerRows = peerNames.flatMap((name) => {
    const peer = result.peers[name];
    const ratio = result[ratioNames[name]];
    if (peer === undefined || ratio === undefined) return [];
    const format = peer.memoryFormat === undefined ? '' : `, ${peer.memoryFormat}`;
    const title = `${peer.framework} ${peer.version}${format}${titles[name]}`;
    return [
      row(
        title,
        peer.imagesPerSecond,
        (round) => round.peers[name] ?? NaN,
        `${ratio.toFixed(2)} times it`,
        milliseconds(peer.stepMs),
      ),
    ];
  });
  return textTable([
    ['', 'images/s', 'rounds', 'ms a step (p10..p90)', 'crosstower is'],
    row('crosstower', result.imagesPerSecond, (round) => round.imagesPerSecond, '', milliseconds(stepMs)),
    row(
      `ceiling, ${(ceiling.flops / 1e9).toFixed(0)} GFLOP/s`,
      ceiling.imagesPerSecond,
      (round) => round.ceilingImagesPerSecond,
      `${percent(result.shareOfCeiling)} of it`,
      '',
    ),
    ...peerRows,
  ]);
}

function breakdown({ breakdown: parts }: Result): string {
  const names = [...stepParts, 'exchangeWaitAndSync'] as const;
  return textTable([
    ['part of a step', 'ms', 'share', 'slower tower'],
    ...names.map((name) => [partTitles[name], parts[name].ms.toFixed(1), percent(parts[name].share), String(parts[name].tower)]),
  ]);
}

function resources({ firstStepMs, pageFaultsPerStep, peakMemoryBytes }: Result): string {
  return textTable([
    ['command to first step', `${(firstStepMs / 1000).toFixed(1)} s`],
    ['page faults a step', pageFaultsPerStep === undefined ? 'unknown' : pageFaultsPerStep.toFixed(0)],
    ['peak memory of a worker', peakMemoryBytes === undefined ? 'unknown' : `${(peakMemoryBytes / 1e9).toFixed(2)} GB`],
  ]);
}

/** What --compare says: what moved, and the figures that did not. */
export function comparisonReport(comparisons: readonly Comparison[], base: string): string {
  const moved = comparisons.filter(({ verdict }) => verdict !== 'same');
  const verdict =
    moved.length === 0
      ? `nothing moved beyond the noise since ${base}`
      : `since ${base}: ${moved.map(({ name, change, verdict }) => `${name} ${verdict} (${signed(change)})`).join('; ')}`;
  const rows = comparisons.map(({ name, base: before, now, change, noise, verdict }) => [
    name,
    ...[before, now].map(threeDigits),
    signed(change),
    `+-${threeDigits(noise)}`,
    verdict === 'same' ? '' : verdict,
  ]);
  return `${verdict}\n\n${textTable([['', 'base', 'now', 'change', 'noise', ''], ...rows])}`;
}

function signed(share: number): string {
  return `${share < 0 ? '' : '+'}${percent(share)}`;
}
