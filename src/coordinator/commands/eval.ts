// `coordinator eval`: the scores of a checkpoint on a split, from one view of each picture or ten, and what is taken for what.

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { DataError, StorageError, exitCodes } from '../../spec/errors.ts';
import { networkFor } from '../../spec/network.ts';
import type { DataSource } from '../../data/batch.ts';
import { cacheFolder } from '../../data/fashionMnist.ts';
import { openData } from '../../data/openData.ts';
import { beginAhead } from '../ahead.ts';
import { parseFlags } from '../command.ts';
import type { Command, Flag } from '../command.ts';
import { confusionCsv, confusionSvg } from '../confusionPicture.ts';
import { inferenceFields, inferenceFlags, openCheckpoint, placeOfWorkers, withInference } from '../inference.ts';
import type { Checkpoint, Classify } from '../inference.ts';
import { checkSameClasses } from '../modelSource.ts';
import { Progress, percent } from '../progress.ts';
import { ScoreSums, averageViews } from '../scores.ts';
import type { Confusion } from '../scores.ts';

const group = 'This command:';

const evalFlags = {
  ...inferenceFlags,
  data: { type: 'string', requiresArg: true, group, describe: "Pictures as --data of `start` takes them [default: the run's]" },
  split: { type: 'string', choices: ['test', 'train'] as const, default: 'test', group, describe: 'Which pictures of them' },
  out: { type: 'string', requiresArg: true, group, describe: 'Folder for metrics.json, confusion.csv and confusion.svg' },
  'loader-threads': { type: 'number', requiresArg: true, group, default: 1, describe: 'Threads that read and crop pictures' },
} as const satisfies Record<string, Flag>;

const evalSchema = z.object({
  ...inferenceFields,
  data: z.string().min(1).optional(),
  split: z.enum(['test', 'train']),
  out: z.string().min(1).optional(),
  'loader-threads': z.int().min(1),
});
type EvalArguments = z.infer<typeof evalSchema>;

/** Batches that are loaded before somebody asks for them. */
const loadAhead = 3;

export const evaluate: Command = {
  name: 'eval',
  describe: 'Score a checkpoint on test or training pictures',
  flags: evalFlags,
  examples: [
    ['eval --checkpoint runs/first', "the newest checkpoint on the run's own test pictures"],
    ['eval --checkpoint runs/first --best --views 10 --out scores', 'the best one from ten views, with its confusion matrix'],
  ],

  async run(argv, { output, errors, now, packageVersion, takeSignals }) {
    const args = parseFlags(evalSchema, argv);
    const progress = new Progress({ output: errors, now });
    const say = (line: string): void => {
      progress.say(line);
    };
    const stop = takeSignals(say);
    const place = placeOfWorkers(args, say);
    const model = await openCheckpoint(args, say);
    try {
      const options = { model, ...place, packageVersion, say, stop };
      let data: DataSource | undefined;
      const prepare = async (): Promise<DataSource> => {
        data = await openSplit(model, args, say);
        return data;
      };
      try {
        const { report, confusion } = await withInference(options, prepare, (source, classify) =>
          scoreSplit(source, classify, { model, args, progress, now }),
        );
        if (args.out !== undefined) await writeReport(args.out, report, confusion);
        output.write(args.json === true ? `${JSON.stringify(report)}\n` : asText(report, args.out));
        return exitCodes.done;
      } finally {
        await data?.close();
      }
    } finally {
      await model.weights.close();
    }
  },
};

/** The data, which must have the checkpoint's classes and channels. */
async function openSplit({ manifest, path }: Checkpoint, args: EvalArguments, say: (line: string) => void): Promise<DataSource> {
  const config = { ...manifest.config, ...(args.data === undefined ? {} : { data: args.data }) };
  const data = await openData(config, {
    cropSize: networkFor(config).inputSize,
    threads: args['loader-threads'],
    cacheFolder: cacheFolder(process.env),
    log: say,
  });
  try {
    checkSameClasses(path, manifest.classes, data);
    const { channels } = data.shape;
    if (channels !== manifest.data.mean.length) {
      const inWords = (count: number): string => (count === 1 ? 'grey' : 'RGB');
      throw new DataError(
        `${path} was trained on ${inWords(manifest.data.mean.length)} pictures, and ${data.name} is ${inWords(channels)}`,
      );
    }
    return data;
  } catch (error) {
    await data.close();
    throw error;
  }
}

interface Report {
  readonly checkpoint: string;
  readonly step: number;
  readonly data: string;
  readonly split: 'test' | 'train';
  readonly views: number;
  readonly count: number;
  readonly top1: number;
  readonly top5: number;
  readonly loss: number;
  readonly imagesPerSecond: number;
}

async function scoreSplit(
  data: DataSource,
  classify: Classify,
  { model, args, progress, now }: { model: Checkpoint; args: EvalArguments; progress: Progress; now: () => number },
): Promise<{ report: Report; confusion: Confusion }> {
  const { path, manifest } = model;
  const total = data.counts[args.split];
  const labels: Int32Array[] = [];
  const sums = new ScoreSums(manifest.classes);
  const startMs = now();
  const rate = (): number => (1000 * sums.count) / (now() - startMs);
  const loads = viewRequests(total, manifest.config.evalBatch, args.views).map((request) => async () => {
    return { ...request, batch: await data.load({ split: args.split, epoch: 0, ...request }) };
  });
  async function* batches() {
    for await (const { view, batch } of beginAhead(loads, loadAhead)) {
      if (view === 0) labels.push(batch.labels);
      yield batch;
    }
  }
  let views: Float32Array[] = [];
  for await (const probabilities of classify(batches())) {
    views.push(probabilities);
    if (views.length < args.views) continue;
    sums.add(averageViews(views), labels.shift() ?? new Int32Array());
    views = [];
    const { top1, count } = sums.scores;
    const line = (): string =>
      `${String(count)}/${String(total)} pictures  top-1 ${percent(top1)}  ${rate().toFixed(1)} images/s`;
    progress.renew(line, count === total);
  }
  progress.endLine();
  const place = { checkpoint: path, step: manifest.step, data: data.name, split: args.split, views: args.views };
  return { report: { ...place, ...sums.scores, imagesPerSecond: rate() }, confusion: sums.confusion };
}

/** Every view of the first pictures, then every view of the next. */
function viewRequests(total: number, batch: number, views: number): { indices: Uint32Array; view: number }[] {
  return Array.from({ length: Math.ceil(total / batch) }, (_, b) =>
    Uint32Array.from({ length: Math.min(batch, total - b * batch) }, (_, i) => b * batch + i),
  ).flatMap((indices) => Array.from({ length: views }, (_, view) => ({ indices, view })));
}

async function writeReport(folder: string, report: Report, confusion: Confusion): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'metrics.json'), `${JSON.stringify(report, undefined, 2)}\n`);
    await writeFile(join(folder, 'confusion.csv'), confusionCsv(confusion));
    await writeFile(join(folder, 'confusion.svg'), await confusionSvg(confusion));
  } catch (error) {
    throw new StorageError(`--out: ${folder} could not be written: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}

function asText(report: Report, out: string | undefined): string {
  const { checkpoint, step, data, split, views, count, top1, top5, loss, imagesPerSecond } = report;
  return [
    `checkpoint  ${checkpoint}, step ${String(step)}`,
    `pictures    ${String(count)}, ${split} split of ${data}, ${views === 1 ? 'middle view' : `${String(views)} views`}`,
    `top-1       ${percent(top1)}`,
    `top-5       ${percent(top5)}`,
    `loss        ${loss.toFixed(4)}`,
    `speed       ${imagesPerSecond.toFixed(1)} images/s`,
    ...(out === undefined
      ? []
      : [`files       ${['metrics.json', 'confusion.csv', 'confusion.svg'].map((name) => join(out, name)).join(', ')}`]),
    '',
  ].join('\n');
}
