// Which workers a command starts on this machine, by its flags: on the CPU or on GPUs, one a tower or one for both.

import { availableParallelism } from 'node:os';
import { z } from 'zod';
import { UsageError } from '../spec/errors.ts';
import type { Flag } from './command.ts';

/** A worker to start here, and its arguments beside the coordinator's address and the tower. */
export interface LocalChoice {
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
    describe: 'Start both workers on this machine as well',
  },
  gpus: { type: 'string', requiresArg: true, group, default: '0,1', describe: 'GPUs of --local gpu' },
  threads: {
    type: 'number',
    requiresArg: true,
    implies: 'local',
    group,
    describe: 'CPU threads of each worker of --local cpu [default: half of the cores]',
  },
  'one-process': {
    type: 'boolean',
    implies: 'local',
    group,
    describe: 'With --local: both towers in one worker process',
  },
} as const satisfies Record<string, Flag>;

export const localFields = {
  local: z.enum(['cpu', 'gpu']).optional(),
  gpus: z.string(),
  threads: z.int().min(1).optional(),
  'one-process': z.boolean().optional(),
} as const;

export type LocalArguments = z.infer<z.ZodObject<typeof localFields>>;

/** The workers to start; none without --local. Throws UsageError on GPUs that are no numbers. */
export function localWorkers(args: LocalArguments): readonly LocalChoice[] {
  if (args.local === undefined) return [];
  if (args.local === 'gpu') {
    const gpus = args.gpus.split(',');
    const [first, second = first] = gpus;
    if (first === undefined || second === undefined || !gpus.every((gpu) => /^\d+$/.test(gpu))) {
      throw new UsageError(`--gpus takes numbers with a comma between, such as 0,1, not '${args.gpus}'`);
    }
    if (args['one-process'] === true) return [{ tower: 'both', args: ['--gpu', first] }];
    return [
      { tower: '0', args: ['--gpu', first] },
      { tower: '1', args: ['--gpu', second] },
    ];
  }
  const cores = availableParallelism();
  if (args['one-process'] === true) return [{ tower: 'both', args: ['--cpu', '--threads', String(args.threads ?? cores)] }];
  const threads = String(args.threads ?? Math.max(1, Math.floor(cores / 2)));
  return (['0', '1'] as const).map((tower) => ({ tower, args: ['--cpu', '--threads', threads] }));
}
