// `coordinator start`: a training from flags and files to its end.

import { join } from 'node:path';
import { z } from 'zod';
import { bindAddress, defaultAddress } from '../../spec/launchEnvironment.ts';
import { parseFlags } from '../command.ts';
import type { Command, Flag } from '../command.ts';
import { localFields, localFlags, localWorkers } from '../localChoice.ts';
import { changeConfig, configFlags, configInShort, readConfig } from '../options.ts';
import { checkResumedConfig, findResumePoint } from '../resume.ts';
import { readSecurity, securityFields, securityFlags } from '../security.ts';
import { startRun } from '../startRun.ts';

const runsFolder = 'runs';
/** Of a trace, unless --profile says how many. */
const tracedSteps = 3;

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
    describe: `Where to listen for workers; port 0 takes a free one [default: port $MASTER_PORT, else ${defaultAddress}; with --local a socket that no other user can reach]`,
  },
  'run-dir': {
    type: 'string',
    requiresArg: true,
    group: 'This command:',
    describe: "Folder for the run's files [default: runs/<date-time>]",
  },
  resume: {
    type: 'string',
    requiresArg: true,
    group: 'This command:',
    describe: 'Go on from a checkpoint or a run folder; auto: from --run-dir, or the newest run, if there is one',
  },
  'allow-change': {
    type: 'string',
    requiresArg: true,
    implies: 'resume',
    group: 'This command:',
    describe: 'Config fields, with commas between, that may differ from those of the run that goes on',
  },
  ...securityFlags,
  ...localFlags,
  'loader-threads': {
    type: 'number',
    requiresArg: true,
    group: 'This command:',
    default: 1,
    describe: 'Threads that read, crop and flip pictures',
  },
  trace: {
    type: 'string',
    requiresArg: true,
    group: 'Where the time goes:',
    describe:
      'Write a trace of a few steps to this file, for ui.perfetto.dev or chrome://tracing: a lane per tower, one for the coordinator',
  },
  profile: {
    type: 'number',
    requiresArg: true,
    group: 'Where the time goes:',
    describe: 'Print a table of N steps: milliseconds, GFLOP/s and share of each layer, forward and backward',
  },
} as const satisfies Record<string, Flag>;

const startSchema = z.object({
  config: z.string().optional(),
  bind: z.string().optional(),
  'run-dir': z.string().optional(),
  resume: z.string().optional(),
  'allow-change': z.string().optional(),
  ...securityFields,
  ...localFields,
  'loader-threads': z.int().min(1),
  trace: z.string().min(1).optional(),
  profile: z.int().min(1).max(1000).optional(),
});

/** runs/2026-11-24T06-30-00: sorts by time, and is a legal name everywhere. */
function defaultRunDir(): string {
  return join(runsFolder, new Date().toISOString().slice(0, 19).replaceAll(':', '-'));
}

export const start: Command = {
  name: 'start',
  describe: 'Train: wait for two workers, or start them, and run',
  flags: { ...startFlags, ...configFlags() },
  examples: [
    ['start --local cpu --network compact --epochs 5', "both workers on this machine's CPU"],
    ['start --data fashion-mnist', 'wait for `worker --gpu 0` and `worker --gpu 1`'],
    ['start --config run.yaml --lr 0.02', 'fields from a file, one of them changed'],
    ['start --local cpu --trace step.json --profile 5', 'and where the time of five steps goes'],
    ['start --local cpu --resume auto', 'go on with the newest run after Ctrl-C'],
  ],
  epilogue:
    'Exit codes: 0 done, 2 usage, 3 worker lost, 4 refused, 5 data, 6 storage, 7 loss not finite, 8 out of memory,\n75 stopped early by a signal, with a checkpoint: run it again with --resume; 130 and 143 after a second signal.',

  async run(argv, { output, now, packageVersion, takeSignals }) {
    const args = parseFlags(startSchema, argv);
    const say = (line: string): void => {
      output.write(`${line}\n`);
    };
    const bind = args.local === undefined ? bindAddress(args.bind, process.env, say) : args.bind;
    const curve = readSecurity(args, bind, say);
    const resume =
      args.resume === undefined ? undefined : await findResumePoint(args.resume, { runDir: args['run-dir'], runsFolder, say });
    if (args.resume === 'auto' && resume === undefined) say('no checkpoint to go on from: a new run');
    const config = resume === undefined ? readConfig(args.config, argv) : changeConfig(resume.manifest.config, args.config, argv);
    if (resume !== undefined) checkResumedConfig(resume.manifest.config, config, args['allow-change']?.split(',') ?? []);
    say(`config: ${configInShort(config)}`);
    return startRun({
      config,
      bind,
      curve,
      runDir: resume?.runDir ?? args['run-dir'] ?? defaultRunDir(),
      resume,
      mayBeginAnew: args.resume === 'auto' && resume === undefined,
      localWorkers: localWorkers(args, config.replicas),
      loaderThreads: args['loader-threads'],
      trace:
        args.trace === undefined && args.profile === undefined
          ? undefined
          : { file: args.trace, isProfiled: args.profile !== undefined, steps: args.profile ?? tracedSteps },
      packageVersion,
      output,
      stop: takeSignals(say),
      now,
    });
  },
};
