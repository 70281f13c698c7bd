// The machine that a benchmark ran on, as far as figures depend on it.

import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os';
import type { Setup } from '../src/worker/environment.ts';

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly kernel: string;
  readonly node: string;
  readonly tensorflow: string;
  /** Of the workers. */
  readonly allocator: 'jemalloc' | 'glibc';
}

export function describeMachine(tensorflow: string, { jemalloc }: Pick<Setup, 'jemalloc'>): Machine {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    kernel: release(),
    node: process.version,
    tensorflow,
    allocator: jemalloc === null ? 'glibc' : 'jemalloc',
  };
}

/** A sentence where others were using the cores in the last minute; figures measured beside them are too low. */
export function busyWarning(load = loadavg()[0] ?? 0, cores = availableParallelism()): string | undefined {
  if (load < busyShare * cores) return undefined;
  return `other processes kept ${load.toFixed(1)} of ${cores} cores busy in the last minute: the figures will be too low`;
}

const busyShare = 0.15;
