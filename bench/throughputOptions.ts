// The command line of `npm run bench`.

import { parseArgs } from 'node:util';
import { UsageError } from '../src/spec/errors.ts';
import { parseFrameworks } from './peer.ts';
import type { Framework } from './peerEnvironment.ts';

export const benchNetworks = ['alexnet', 'compact'] as const;
export type BenchNetwork = (typeof benchNetworks)[number];

/** Of the data that each network was made for. */
export const benchClasses = { alexnet: 1000, compact: 10 } as const satisfies Record<BenchNetwork, number>;

export interface ThroughputOptions {
  readonly network: BenchNetwork;
  readonly batch: number;
  readonly steps: number;
  readonly rounds: number;
  readonly warmup: number;
  readonly threads: number;
  readonly peers: readonly Framework[];
  readonly json: boolean;
  readonly compare: string | undefined;
  /** Of `coordinator start`, from behind `--`. */
  readonly flags: readonly string[];
}

/** Steps that make a round long enough to time and short enough to alternate; a small network is fast, but slow to settle. */
const defaults = { alexnet: { steps: 15, warmup: 10 }, compact: { steps: 150, warmup: 50 } } as const;

export const throughputHelp = `npm run bench -- [options] [-- flags of coordinator start]

Measures training steps of two workers on this machine's CPU, and in the same rounds what they could reach at most: the FLOP/s
of a large matrix product in two processes at once. With --peer, the same network in another framework takes its turns too.
Rounds alternate, because clocks and neighbours change; ratios are taken within a round.

Options
  --network NAME   alexnet or compact (default: alexnet)
  --batch N        pictures a step (default: 128)
  --threads N      CPU threads of each of the two workers (default: 1); peers take all cores
  --rounds N       rounds (default: 3); their range is the noise
  --steps N        measured steps a round (default: ${defaults.alexnet.steps}; compact: ${defaults.compact.steps})
  --warmup N       steps before, not counted (default: ${defaults.alexnet.warmup}; compact: ${defaults.compact.warmup})
  --peer NAME      tensorflow, pytorch or both with a comma: measured as it comes and with the workers' allocator;
                   installed into the cache folder when it is first asked for
  --json           one JSON object on standard output; progress goes to standard error in any case
  --compare FILE   an earlier --json: says what became faster or slower than the noise
  --help           this text

Examples
  npm run bench                                        two minutes: images/s, the step's parts, share of the ceiling
  npm run bench -- --peer tensorflow,pytorch           a quarter of an hour: the ratios as well
  npm run --silent bench -- --json > base.json         keep a base ...
  npm run bench -- --compare base.json                 ... and compare a change with it
  npm run bench -- --network compact -- --micro-batch 128    with another flag of the run

Exit codes: 0 done, 2 usage, 3 a process ended before its time, 5 a peer could not be installed, 130 and 143 stopped by a
signal; nothing stays behind.`;

/** Parses the arguments; 'help' when that is wanted; throws UsageError naming the flag that is wrong. */
export function parseThroughputOptions(argv: readonly string[]): ThroughputOptions | 'help' {
  const end = argv.indexOf('--');
  const own = end === -1 ? argv : argv.slice(0, end);
  const { values } = parseOwn(own);
  if (values.help === true) return 'help';
  const network = parseNetwork(values.network);
  return {
    network,
    batch: atLeast(1, 'batch', values.batch ?? '128'),
    steps: atLeast(2, 'steps', values.steps ?? String(defaults[network].steps)),
    rounds: atLeast(1, 'rounds', values.rounds ?? '3'),
    warmup: atLeast(1, 'warmup', values.warmup ?? String(defaults[network].warmup)),
    threads: atLeast(1, 'threads', values.threads ?? '1'),
    peers: parseFrameworks(values.peer ?? []),
    json: values.json ?? false,
    compare: values.compare,
    flags: end === -1 ? [] : argv.slice(end + 1),
  };
}

/** Reads --network; throws UsageError for one that is not measured. */
export function parseNetwork(text = 'alexnet'): BenchNetwork {
  const network = benchNetworks.find((name) => name === text);
  if (network === undefined) throw new UsageError(`--network takes ${benchNetworks.join(' or ')}, not '${text}'`);
  return network;
}

function parseOwn(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        network: { type: 'string' },
        batch: { type: 'string' },
        steps: { type: 'string' },
        rounds: { type: 'string' },
        warmup: { type: 'string' },
        threads: { type: 'string' },
        peer: { type: 'string', multiple: true },
        json: { type: 'boolean' },
        compare: { type: 'string' },
        help: { type: 'boolean' },
      },
    });
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new UsageError(`${message}; npm run bench -- --help shows the options`, { cause: error });
  }
}

/** Reads a whole number; throws UsageError where it is none or too small. */
export function atLeast(least: number, flag: string, text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < least) throw new UsageError(`--${flag} takes a whole number from ${least}, not '${text}'`);
  return value;
}
