// `coordinator prepare`: pictures made ready for training, once (docs/prepare.md).

import { mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { z } from 'zod';
import { prepareDataset } from '../../data/prepare/prepare.ts';
import { findSource } from '../../data/prepare/source.ts';
import { StorageError, exitCodes } from '../../spec/errors.ts';
import { parseFlags } from '../command.ts';
import type { Command, Flag } from '../command.ts';
import { Progress } from '../progress.ts';
import { RunLock } from '../runLock.ts';

const prepareFlags = {
  from: {
    type: 'string',
    requiresArg: true,
    demandOption: true,
    describe: "Folder with ILSVRC2012's three files, folder with a folder for each class, or list of `PATH LABEL`",
  },
  out: { type: 'string', requiresArg: true, demandOption: true, describe: 'Folder to be made; the same command goes on with it' },
  'short-side': { type: 'number', requiresArg: true, default: 256, describe: "Pixels of every picture's shorter side" },
  quality: { type: 'number', requiresArg: true, default: 90, describe: 'Of the JPEGs, 1 to 100' },
  'shard-size': { type: 'number', requiresArg: true, default: 5000, describe: 'Pictures a shard' },
  'val-fraction': {
    type: 'number',
    requiresArg: true,
    default: 0.1,
    describe: 'Share of the pictures kept for testing where the source has no split of its own',
  },
  'on-bad-image': {
    type: 'string',
    choices: ['skip', 'fail'] as const,
    default: 'skip',
    describe: 'A picture that cannot be read: leave it out and count it (at most 1%), or end (exit 5)',
  },
  jobs: { type: 'number', requiresArg: true, describe: 'Pictures in hand at once [default: the cores]' },
} as const satisfies Record<string, Flag>;

const prepareSchema = z.object({
  from: z.string().min(1),
  out: z.string().min(1),
  'short-side': z.int().min(8).max(4096),
  quality: z.int().min(1).max(100),
  'shard-size': z.int().min(1).max(1_000_000),
  'val-fraction': z.number().positive().lt(1),
  'on-bad-image': z.enum(['skip', 'fail']),
  jobs: z.int().min(1).max(1024).optional(),
});

export const prepare: Command = {
  name: 'prepare',
  describe: 'Resize, shuffle and pack pictures into shards that training reads',
  flags: prepareFlags,
  examples: [
    ['prepare --from ILSVRC2012 --out imagenet', 'ImageNet as its makers hand it out, then `start --data imagenet`'],
    ['prepare --from pictures --out shards', 'a folder with a folder for each class'],
  ],
  epilogue:
    'Ended at any moment, the same command goes on where it was. More than four jobs need UV_THREADPOOL_SIZE (docs/prepare.md).',

  async run(argv, { output, now, takeSignals }) {
    const args = parseFlags(prepareSchema, argv);
    const progress = new Progress({ output, now });
    const say = (line: string): void => {
      progress.say(line);
    };
    const signal = takeSignals(say);
    say(`looking at ${args.from}`);
    const rule = { size: args['short-side'], cropMode: 'center' } as const;
    const source = await findSource(args.from, { rule, valFraction: args['val-fraction'] });
    const { train, test } = source.splits;
    say(
      `${String(source.classes.length)} classes, ${String(train.labels.length)} training and ${String(test.labels.length)} test pictures`,
    );
    const lock = lockFolder(args.out, say);
    try {
      const isDone = await prepareDataset(source, {
        out: args.out,
        shortSide: args['short-side'],
        quality: args.quality,
        shardSize: args['shard-size'],
        jobs: args.jobs ?? availableParallelism(),
        onBadImage: args['on-bad-image'],
        log: say,
        onProgress: (done, total) => {
          progress.pictures(done, total);
        },
        signal,
      });
      say(
        isDone
          ? `${args.out} is ready: coordinator start --data ${args.out}`
          : `stopped by ${String(signal.reason)}; the whole shards in ${args.out} are kept: the same command goes on`,
      );
      return isDone ? exitCodes.done : exitCodes.stoppedEarly;
    } finally {
      lock.release();
    }
  },
};

function lockFolder(folder: string, say: (line: string) => void): RunLock {
  try {
    mkdirSync(folder, { recursive: true });
    return RunLock.take(folder, say);
  } catch (error) {
    if (!(error instanceof Error) || !('syscall' in error)) throw error;
    throw new StorageError(`${folder} could not be made: ${error.message}`, { cause: error });
  }
}
