#!/usr/bin/env node
// The `coordinator` command: the one place of this process where arguments, environment, signals and clocks come in.

import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import yargs from 'yargs';
import { hideBin } from 'yargs/helpers';
import { z } from 'zod';
import { UsageError, exitCodeOf, exitCodes } from '../spec/errors.ts';
import { packageVersion } from '../spec/packageRoot.ts';
import { stopOnSignals } from '../spec/stopSignals.ts';
import { configFlags, configInShort, readConfig } from './options.ts';
import { startRun } from './startRun.ts';
import type { StartOptions } from './startRun.ts';

/** Where workers look for a coordinator unless told otherwise. */
const defaultBind = 'tcp://127.0.0.1:5570';

const startFlags = {
  config: {
    type: 'string',
    requiresArg: true,
    group: 'This command:',
    describe: 'YAML or JSON file with the fields below; flags win over it',
  },
  bind: {
    type: 'string',
    requiresArg: true,
    group: 'This command:',
    describe: 'Where to listen for workers; port 0 takes a free one [default: tcp://127.0.0.1:5570; with --local a free port]',
  },
  'run-dir': {
    type: 'string',
    requiresArg: true,
    group: 'This command:',
    describe: "Folder for the run's files [default: runs/<date-time>]",
  },
  local: {
    type: 'string',
    choices: ['cpu', 'gpu'] as const,
    group: 'This command:',
    describe: 'Start both workers on this machine as well',
  },
  gpus: { type: 'string', requiresArg: true, group: 'This command:', default: '0,1', describe: 'GPUs of --local gpu' },
  threads: {
    type: 'number',
    requiresArg: true,
    implies: 'local',
    group: 'This command:',
    describe: 'CPU threads of each worker of --local cpu [default: half of the cores]',
  },
  'one-process': {
    type: 'boolean',
    implies: 'local',
    group: 'This command:',
    describe: 'With --local: both towers in one worker process',
  },
  'loader-threads': {
    type: 'number',
    requiresArg: true,
    group: 'This command:',
    default: 1,
    describe: 'Threads that read, crop and flip pictures',
  },
} as const;

function parseArguments() {
  return yargs(hideBin(process.argv))
    .scriptName('coordinator')
    .usage('$0 <command>\n\nOwns the data and the course of a run; workers compute.')
    .command('start', 'Train: wait for two workers, or start them, and run', (command) =>
      command
        .options({ ...startFlags, ...configFlags() })
        .example('$0 start --local cpu --network compact --epochs 5', "both workers on this machine's CPU")
        .example('$0 start --data fashion-mnist', 'wait for `worker --gpu 0` and `worker --gpu 1`')
        .example('$0 start --config run.yaml --lr 0.02', 'fields from a file, one of them changed')
        .epilogue(
          'Exit codes: 0 done, 2 usage, 3 worker lost, 4 refused, 5 data, 6 storage, 7 loss not finite, 8 out of memory,\n75 stopped early by a signal, with the model saved; 130 and 143 after a second signal.',
        ),
    )
    .demandCommand(1, 'name a command, such as `coordinator start`')
    .version(packageVersion())
    .strict()
    .wrap(120)
    .fail((message, error: unknown) => {
      // yargs spreads some of its sentences over lines.
      throw new UsageError(`${(message || String(error)).replace(/\s*\n\s*/g, ' ')}; see coordinator --help`);
    })
    .parseSync();
}

const startSchema = z.object({
  config: z.string().optional(),
  bind: z.string().optional(),
  'run-dir': z.string().optional(),
  local: z.enum(['cpu', 'gpu']).optional(),
  gpus: z.string(),
  threads: z.int().min(1).optional(),
  'one-process': z.boolean().optional(),
  'loader-threads': z.int().min(1),
});

function localWorkers(args: z.infer<typeof startSchema>): StartOptions['localWorkers'] {
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

/** runs/2026-11-24T06-30-00: sorts by time, and is a legal name everywhere. */
function defaultRunDir(): string {
  return join('runs', new Date().toISOString().slice(0, 19).replaceAll(':', '-'));
}

async function main(): Promise<number> {
  const argv = parseArguments();
  const parsed = startSchema.safeParse(argv);
  if (!parsed.success) {
    throw new UsageError(parsed.error.issues.map((issue) => `--${issue.path.join('.')}: ${issue.message}`).join('; '));
  }
  const args = parsed.data;
  const config = readConfig(args.config, argv);
  const say = (line: string): void => {
    process.stdout.write(`${line}\n`);
  };
  say(`config: ${configInShort(config)}`);
  const now = (): number => performance.now();
  return startRun({
    config,
    bind: args.bind ?? (args.local === undefined ? defaultBind : 'tcp://127.0.0.1:0'),
    runDir: args['run-dir'] ?? defaultRunDir(),
    localWorkers: localWorkers(args),
    loaderThreads: args['loader-threads'],
    packageVersion: packageVersion(),
    output: process.stdout,
    stop: stopOnSignals(say, now),
    now,
  });
}

// A reader that goes away (`| head`) is no reason to stop training.
process.stdout.on('error', () => undefined);
main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    const code = exitCodeOf(error);
    const text = error instanceof Error ? (code === exitCodes.bug ? error.stack : error.message) : String(error);
    process.stderr.write(`coordinator: ${text ?? ''}\n`);
    process.exit(code);
  },
);
