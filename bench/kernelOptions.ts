// The command line of bench/kernels.ts.

import { parseArgs } from 'node:util';
import { UsageError } from '../src/spec/errors.ts';
import { atLeast, parseNetwork } from './throughputOptions.ts';
import type { BenchNetwork } from './throughputOptions.ts';

export interface KernelOptions {
  readonly network: BenchNetwork;
  readonly batches: readonly number[];
  readonly threads: number;
  readonly json: boolean;
}

export const kernelsHelp = `npm run bench:kernels -- [options]

Times what one tower computes in a step, kernel by kernel, in a worker's environment: milliseconds (median), GFLOP/s or GB/s, and the
share of what binds it, measured in the same process: a large matrix product, or one pass over large memory (maps that fit
the cache can exceed it). Kernels with * in the last column are there for comparison; no tower uses them.

Options
  --network NAME   alexnet or compact (default: alexnet)
  --batch N,N      pictures at a time (default: 32,64)
  --threads N      CPU threads (default: 1)
  --json           one JSON object on standard output
  --help           this text

Examples
  npm run bench:kernels
  npm run --silent bench:kernels -- --batch 128 --json > kernels.json`;

/** Parses the arguments; 'help' when that is wanted; throws UsageError naming the flag that is wrong. */
export function parseKernelOptions(argv: readonly string[]): KernelOptions | 'help' {
  const values = parse(argv);
  if (values.help === true) return 'help';
  const { batch = '32,64', threads = '1', json = false } = values;
  const network = parseNetwork(values.network);
  const batches = batch.split(',').map((text) => atLeast(1, 'batch', text));
  return { network, batches, threads: atLeast(1, 'threads', threads), json };
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      options: {
        network: { type: 'string' },
        batch: { type: 'string' },
        threads: { type: 'string' },
        json: { type: 'boolean' },
        help: { type: 'boolean' },
      },
    }).values;
  } catch (error) {
    throw new UsageError(`${error instanceof Error ? error.message : String(error)}; --help shows the options`, { cause: error });
  }
}
