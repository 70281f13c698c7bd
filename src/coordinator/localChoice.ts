// Which workers a command starts on this machine, by its flags: on the CPU or on GPUs, one a tower or one for both.

import { availableParallelism } from 'node:os';
import { z } from 'zod';
import { UsageError } from '../spec/errors.ts';
import type { Flag } from './command.ts';

/** A worker to start here, and its arguments beside the coordinator's address and the towers. */
export interface LocalChoice {
  readonly replica: number;
  readonly tower: '0' | '1' | 'both';
  readonly args: readonly string[];
}

const group = 'This command:';

/** For `coordinator start`, which waits for workers from elsewhere unless it is told to start them. */
export const localFlags = {
  local: {
    type: 'string',
    choices: ['cpu', 'gpu'] as const,
    group,
    describe: 'Start the workers on this machine as well: both towers of every replica',
  },
  gpus: {
    type: 'string',
    requiresArg: true,
    group,
    default: '0,1',
    describe: 'GPUs of --local gpu, in the order of the workers: both towers of a replica, then the next',
  },
  threads: {
    type: 'number',
    requiresArg: true,
    implies: 'local',
    group,
    describe: 'CPU threads of each worker of --local cpu [default: the cores, shared out]',
  },
  'one-process': {
    type: 'boolean',
    implies: 'local',
    group,
    describe: 'With --local: both towers of a replica in one worker process',
  },
} as const satisfies Record<string, Flag>;

export const localFields = {
  local: z.enum(['cpu', 'gpu']).optional(),
  gpus: z.string(),
  threads: z.int().min(1).optional(),
  'one-process': z.boolean().optional(),
} as const;

export type LocalArguments = z.infer<z.ZodObject<typeof localFields>>;

/** The workers to start, both towers of every replica; none without --local. Throws UsageError on GPUs that are no numbers, or too few. */
export function localWorkers(args: LocalArguments, replicas: number): readonly LocalChoice[] {
  if (args.local === undefined) return [];
  const isTogether = args['one-process'] === true;
  const workers = isTogether ? replicas : 2 * replicas;
  const devices = args.local === 'gpu' ? gpuArguments(args.gpus, workers) : cpuArguments(args.threads, workers);
  return devices.map((device, i) =>
    isTogether
      ? { replica: i, tower: 'both', args: device }
      : { replica: Math.floor(i / 2), tower: i % 2 === 0 ? '0' : '1', args: device },
  );
}

/** GPUs in the order of the workers; where there are fewer, the last one serves all that are left. */
function gpuArguments(list: string, workers: number): string[][] {
  const gpus = list.split(',');
  if (!gpus.every((gpu) => /^\d+$/.test(gpu)))
    throw new UsageError(`--gpus takes numbers with a comma between, such as 0,1, not '${list}'`);
  return Array.from({ length: workers }, (_, i) => ['--gpu', gpus[Math.min(i, gpus.length - 1)] ?? '0']);
}

function cpuArguments(threads: number | undefined, workers: number): string[][] {
  const each = threads ?? Math.max(1, Math.floor(availableParallelism() / workers));
  return Array.from({ length: workers }, () => ['--cpu', '--threads', String(each)]);
}

/** The name of a worker's log: `1`, `both`, `replica-2-tower-0`. */
export function logName({ replica, tower }: LocalChoice, replicas: number): string {
  return replicas === 1 ? tower : `replica-${String(replica)}-tower-${tower}`;
}
