// The other frameworks that crosstower is measured against: bench/peers/*.py, kept running over all rounds and idle between theirs.
// Each comes twice: as it comes, and with the allocator settings that crosstower's workers get.

import { z } from 'zod';
import { UsageError } from '../src/spec/errors.ts';
import { allocatorEnvironment } from '../src/worker/environment.ts';
import type { Setup } from '../src/worker/environment.ts';
import { LineProcess } from './lineProcess.ts';
import { frameworks, peerPython, peerScript } from './peerEnvironment.ts';
import type { Framework } from './peerEnvironment.ts';
import type { ProcessKeeper } from './processKeeper.ts';

/** The keys of `peers` in the JSON. */
export const peerNames = ['tensorflow', 'tensorflowSameAllocator', 'pytorch', 'pytorchSameAllocator'] as const;
export type PeerName = (typeof peerNames)[number];

/** What a peer says of itself when it is warm. */
const aboutSchema = z.object({
  ready: z.literal(true),
  framework: z.string(),
  version: z.string(),
  threads: z.int(),
  memoryFormat: z.string().optional(),
});
export type PeerAbout = Omit<z.infer<typeof aboutSchema>, 'ready'>;

const answerSchema = z.object({ stepMs: z.array(z.number().positive()).min(1) });

export interface PeerOptions {
  readonly network: string;
  readonly batch: number;
  readonly warmup: number;
  readonly threads: number;
  readonly setup: Setup;
  readonly cacheFolder: string;
  readonly say: (line: string) => void;
}

export class Peer {
  readonly name: PeerName;
  readonly about: PeerAbout;
  readonly #process: LineProcess;

  private constructor(name: PeerName, about: PeerAbout, process: LineProcess) {
    this.name = name;
    this.about = about;
    this.#process = process;
  }

  /** The peers of one framework, installed, started and warmed up one after the other. */
  static async startAll(keeper: ProcessKeeper, framework: Framework, options: PeerOptions): Promise<Peer[]> {
    const python = await peerPython(keeper, framework, options);
    const names = {
      tensorflow: ['tensorflow', 'tensorflowSameAllocator'],
      pytorch: ['pytorch', 'pytorchSameAllocator'],
    } as const;
    const [asItComes, sameAllocator] = names[framework];
    return [
      await Peer.#start(keeper, { name: asItComes, framework, python, allocator: {} }, options),
      await Peer.#start(
        keeper,
        { name: sameAllocator, framework, python, allocator: allocatorEnvironment(options.setup.jemalloc) },
        options,
      ),
    ];
  }

  static async #start(
    keeper: ProcessKeeper,
    peer: { name: PeerName; framework: Framework; python: string; allocator: Record<string, string> },
    { network, batch, warmup, threads, say }: PeerOptions,
  ): Promise<Peer> {
    say(`${peer.name}: starting, ${warmup} steps of warm-up`);
    const args = Object.entries({ network, batch, warmup, threads }).flatMap(([flag, value]) => [`--${flag}`, String(value)]);
    const process = new LineProcess(keeper, {
      name: `the peer ${peer.name}`,
      command: peer.python,
      args: [peerScript(peer.framework), ...args, '--serve'],
      environment: { ...plainEnvironment(), ...peer.allocator },
    });
    const { ready: _ready, ...about } = aboutSchema.parse(await process.ask());
    return new Peer(peer.name, about, process);
  }

  /** Milliseconds of each of `steps` steps, after one that wakes it up and is not counted. */
  async run(steps: number): Promise<number[]> {
    await this.#process.ask('run 1');
    return answerSchema.parse(await this.#process.ask(`run ${steps}`)).stepMs;
  }
}

/** The environment without what would set an allocator or a number of threads: a peer as it comes. */
function plainEnvironment(): NodeJS.ProcessEnv {
  const set = [
    'LD_PRELOAD',
    'MALLOC_CONF',
    'GLIBC_TUNABLES',
    'OMP_NUM_THREADS',
    'TF_NUM_INTRAOP_THREADS',
    'TF_NUM_INTEROP_THREADS',
  ];
  return { ...process.env, CUDA_VISIBLE_DEVICES: '-1', ...Object.fromEntries(set.map((name) => [name, undefined])) };
}

/** Reads `--peer tensorflow,pytorch`; throws UsageError for a name nobody knows. */
export function parseFrameworks(values: readonly string[]): Framework[] {
  const names = values.flatMap((value) => value.split(','));
  const unknown = names.find((name) => !frameworks.some((framework) => framework === name));
  if (unknown !== undefined) throw new UsageError(`--peer takes ${frameworks.join(' or ')}, not '${unknown}'`);
  return frameworks.filter((framework) => names.includes(framework));
}
