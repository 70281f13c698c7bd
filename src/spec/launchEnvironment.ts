// What the environment says of a process's place in a run, where torchrun, Slurm, Kubernetes or a script of one's own has started it.
// Invariant: a flag wins over a variable, and a line names both; two variables that contradict each other are refused, naming both.
// Slurm sets its variables in a batch script too, where nothing has been placed yet: they count only in a task that srun has started.

import { isIP } from 'node:net';
import { UsageError } from './errors.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Which variables hold a fact. Those of a number must agree; of the addresses the first counts, since one host has many names. */
const variables = {
  /** Place among all workers, from 0: pair floor(rank / 2), tower rank % 2. */
  rank: ['RANK', 'SLURM_PROCID', 'JOB_COMPLETION_INDEX'],
  /** Number of workers. */
  worldSize: ['WORLD_SIZE', 'SLURM_NTASKS'],
  /** Place among the workers of this machine, from 0. */
  localRank: ['LOCAL_RANK', 'SLURM_LOCALID'],
  masterAddress: ['MASTER_ADDR', 'SLURM_LAUNCH_NODE_IPADDR'],
  masterPort: ['MASTER_PORT'],
} as const;

const defaultPort = 5570;

/** Where workers look for a coordinator, and it listens, when nobody says anything. */
export const defaultAddress = `tcp://127.0.0.1:${String(defaultPort)}`;

interface Fact<T> {
  readonly value: T;
  /** As the user knows it: `RANK=1`. */
  readonly text: string;
}

/** What a worker was told by flags; undefined where nothing was said. */
export interface WorkerFlags {
  readonly tower: '0' | '1' | 'both' | 'auto' | undefined;
  readonly coordinator: string | undefined;
  /** `auto`: by the place on this machine. */
  readonly gpu: number | 'auto' | undefined;
  readonly cpu: boolean;
}

export interface WorkerPlace {
  readonly tower: '0' | '1' | 'both' | 'auto';
  readonly coordinator: string;
  /** The number of a GPU; undefined where the CPU was chosen, or nothing at all. */
  readonly gpu: number | undefined;
  /** Flags that won over variables, a line each. */
  readonly notes: readonly string[];
}

/** A worker's place by flags, then environment, then defaults; `countGpus` is asked only where it matters. Throws UsageError. */
export function workerPlace(flags: WorkerFlags, environment: Environment, countGpus: () => number): WorkerPlace {
  const notes: string[] = [];
  return {
    tower: placeTower(flags.tower, environment, notes),
    coordinator: placeCoordinator(flags.coordinator, environment, notes),
    gpu: placeGpu(flags, environment, countGpus, notes),
    notes,
  };
}

/** Where a coordinator listens, by its flag, then MASTER_PORT, then the default; `note` hears of a flag that wins. Throws UsageError. */
export function bindAddress(bind: string | undefined, environment: Environment, note: (line: string) => void): string {
  const port = portOf(environment);
  if (port === undefined) return bind ?? defaultAddress;
  if (bind !== undefined) {
    if (!bind.endsWith(`:${String(port.value)}`)) note(`--bind ${bind} wins over ${port.text}`);
    return bind;
  }
  const host = readVariable('masterAddress', environment);
  const isLoopback = host !== undefined && /^(localhost|127\..*|::1)$/.test(host.value);
  return isLoopback ? tcpAddress(host.value, port.value) : `tcp://0.0.0.0:${String(port.value)}`;
}

function placeTower(flag: WorkerFlags['tower'], environment: Environment, notes: string[]): WorkerPlace['tower'] {
  if (flag !== undefined) {
    // What a flag overrules need not make sense.
    const others = readAll('rank', environment).filter(({ value }) => String(Number(value) % 2) !== flag);
    if (others.length > 0) notes.push(`--tower ${flag} wins over ${namesOf(others)}`);
    return flag;
  }
  const rank = readNumber('rank', environment, '--tower');
  const worldSize = readNumber('worldSize', environment, '--tower');
  // In a world of one there is nothing to tell apart.
  if (rank === undefined || worldSize?.value === 1) return 'auto';
  if (worldSize !== undefined) {
    if (worldSize.value % 2 !== 0) {
      throw new UsageError(`${worldSize.text}: workers come in pairs, one for each tower, so that their number is even`);
    }
    if (rank.value >= worldSize.value) throw new UsageError(`${rank.text} does not fit ${worldSize.text}: ranks begin at 0`);
  }
  return rank.value % 2 === 0 ? '0' : '1';
}

function placeCoordinator(flag: string | undefined, environment: Environment, notes: string[]): string {
  const host = readVariable('masterAddress', environment);
  const port = portOf(environment);
  if (host === undefined && port === undefined) return flag ?? defaultAddress;
  const address = tcpAddress(host?.value ?? '127.0.0.1', port?.value ?? defaultPort);
  if (flag === undefined) return address;
  if (flag !== address) notes.push(`--coordinator ${flag} wins over ${namesOf([host, port])}`);
  return flag;
}

/**
 * The scheduler's choice where it has left one GPU in sight, else that of this machine's place: the first worker on a machine takes the
 * first GPU in sight, and so on.
 */
function placeGpu(
  { gpu, cpu }: WorkerFlags,
  environment: Environment,
  countGpus: () => number,
  notes: string[],
): number | undefined {
  if (cpu) return undefined;
  if (typeof gpu === 'number') {
    const others = readAll('localRank', environment).filter(({ value }) => Number(value) !== gpu);
    if (others.length > 0) notes.push(`--gpu ${String(gpu)} wins over ${namesOf(others)}`);
    return gpu;
  }
  const localRank = readNumber('localRank', environment, '--gpu N');
  if (gpu === undefined && localRank === undefined) return undefined;
  const inSight = gpusInSight(environment, countGpus);
  const index = inSight.length === 1 ? inSight[0] : localRank === undefined ? undefined : inSight[localRank.value];
  if (index !== undefined) return index;
  const list = inSight.length === 0 ? 'no GPU is in sight' : `the GPUs in sight are ${inSight.join(', ')}`;
  const place = localRank?.text ?? 'none of LOCAL_RANK and SLURM_LOCALID is set';
  throw new UsageError(`--gpu auto: ${place}, and ${list}; say --gpu N, or --cpu`);
}

function gpusInSight(environment: Environment, countGpus: () => number): number[] {
  const chosen = environment['CUDA_VISIBLE_DEVICES'];
  if (chosen === undefined || chosen === '') return Array.from({ length: countGpus() }, (_, index) => index);
  if (!/^\d+(,\d+)*$/.test(chosen)) {
    throw new UsageError(`--gpu auto: CUDA_VISIBLE_DEVICES=${chosen} names no GPUs by number; say --gpu N`);
  }
  return chosen.split(',').map(Number);
}

function portOf(environment: Environment): Fact<number> | undefined {
  const port = readNumber('masterPort', environment, 'the address by a flag');
  if (port !== undefined && (port.value < 1 || port.value > 65_535)) throw new UsageError(`${port.text} is not a port`);
  return port;
}

/** The number that all of a fact's variables agree on; throws UsageError naming two that do not, and the flag that would settle it. */
function readNumber(fact: keyof typeof variables, environment: Environment, flag: string): Fact<number> | undefined {
  const found = readAll(fact, environment).map(({ value, text }) => {
    if (!/^\d{1,9}$/.test(value)) throw new UsageError(`${text} is not a whole number; correct it, or say ${flag}`);
    return { value: Number(value), text };
  });
  const [first] = found;
  const other = found.find(({ value }) => value !== first?.value);
  if (first !== undefined && other !== undefined) {
    throw new UsageError(`${first.text} contradicts ${other.text}; unset one, or say ${flag}`);
  }
  return first;
}

function readVariable(fact: keyof typeof variables, environment: Environment): Fact<string> | undefined {
  return readAll(fact, environment)[0];
}

function readAll(fact: keyof typeof variables, environment: Environment): Fact<string>[] {
  const isSlurmTask = environment['SLURM_STEP_ID'] !== undefined;
  return variables[fact]
    .filter((name) => isSlurmTask || !name.startsWith('SLURM_'))
    .map((name) => ({ value: environment[name] ?? '', text: `${name}=${environment[name] ?? ''}` }))
    .filter(({ value }) => value !== '');
}

function tcpAddress(host: string, port: number): string {
  return `tcp://${isIP(host) === 6 ? `[${host}]` : host}:${String(port)}`;
}

function namesOf(facts: readonly (Fact<unknown> | undefined)[]): string {
  return facts.flatMap((fact) => fact?.text ?? []).join(' ');
}
