// Made-up rounds for the tests of the benchmark's arithmetic.

import type { PartTimes } from '../../bench/crosstowerRound.ts';
import type { Round, Subject } from '../../bench/summary.ts';

export const subject: Subject = {
  machine: { cpu: 'a core', cores: 2, memoryBytes: 8e9, kernel: '6', node: 'v20', tensorflow: '2.21.0', allocator: 'jemalloc' },
  network: 'alexnet',
  batch: 128,
  threads: 1,
  warmup: 10,
  steps: 2,
  flags: [],
  flopsPerImage: 4e9,
  peers: {},
};

export const peerAbout = { framework: 'TensorFlow', version: '2.21.0', threads: 2 };

export function parts(times: Partial<PartTimes>): PartTimes {
  return { dataWait: 0, compute: 0, exchangeWait: 0, sync: 0, update: 0, ...times };
}

/** A round of two steps of this length, half of it at the ceiling. */
export function round(
  stepMs: number,
  more: Partial<Round> & { pageFaultsPerStep?: number; peakMemoryBytes?: number } = {},
): Round {
  const { pageFaultsPerStep, peakMemoryBytes, ...rest } = more;
  const towers = [
    parts({ compute: stepMs * 0.9, exchangeWait: stepMs * 0.1 }),
    parts({ compute: stepMs * 0.8, sync: stepMs * 0.2 }),
  ];
  return {
    crosstower: {
      stepMs: [stepMs, stepMs],
      parts: [towers, towers],
      firstStepMs: 5000,
      pageFaultsPerStep,
      peakMemoryBytes,
    },
    ceilingFlops: (2 * 128 * 4e9 * 1000) / stepMs,
    peers: {},
    ...rest,
  };
}
