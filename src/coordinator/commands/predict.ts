// `coordinator predict`: the most likely classes of picture files, of folders of them, or of those that are named line by line on standard input.
// Invariant: answers come in the order of the pictures; one that cannot be read is named on standard error and holds nothing up.

import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { DataError, exitCodes } from '../../spec/errors.ts';
import { networkFor } from '../../spec/network.ts';
import { isPictureName } from '../../data/imageFolder.ts';
import { pictureForm, readPictureFile, viewBatch } from '../../data/pictureFiles.ts';
import { croppedShape } from '../../data/augment.ts';
import type { Batch } from '../../data/batch.ts';
import type { PictureForm } from '../../data/pictureFiles.ts';
import { chunksAsTheyCome } from '../ahead.ts';
import { parseFlags, standardInput } from '../command.ts';
import type { Command, Flag } from '../command.ts';
import { inferenceFields, inferenceFlags, openCheckpoint, placeOfWorkers, withInference } from '../inference.ts';
import type { Checkpoint } from '../inference.ts';
import { averageViews, topClasses } from '../scores.ts';
import type { RankedClass } from '../scores.ts';

/** Pictures that are classified at a time. */
const batchSize = 32;

const predictFlags = {
  ...inferenceFlags,
  top: { type: 'number', requiresArg: true, default: 5, group: 'This command:', describe: 'Classes to name for each picture' },
} as const satisfies Record<string, Flag>;

const predictSchema = z.object({ ...inferenceFields, top: z.int().min(1), images: z.array(z.string().min(1)).min(1) });

export const predict: Command = {
  name: 'predict <images..>',
  describe: 'Name the classes of pictures: files, folders, or - for a list on standard input',
  flags: predictFlags,
  examples: [
    ['predict --checkpoint runs/first cat.jpg dog.png', 'the five most likely classes of each'],
    ['predict --checkpoint runs/first --top 1 --json photos', 'all pictures in a folder, a JSON object a line'],
    ['predict --checkpoint runs/first -', 'paths from standard input, one a line'],
  ],

  async run(argv, { output, errors, input, packageVersion, takeSignals }) {
    const args = parseFlags(predictSchema, argv);
    const say = (line: string): void => {
      errors.write(`${line}\n`);
    };
    const stop = takeSignals(say);
    const place = placeOfWorkers(args, say);
    const model = await openCheckpoint(args, say);
    let unread = 0;
    const onUnread = (error: DataError): void => {
      unread++;
      say(error.message);
    };
    try {
      const form = formOf(model);
      const prepared = { shape: croppedShape(form.stored, form.cropSize) };
      // Workers started here are nobody's business unless they fail.
      const sayOfWorkers = args.bind === undefined ? () => undefined : say;
      const options = { model, ...place, packageVersion, say: sayOfWorkers, stop };
      await withInference(
        options,
        () => Promise.resolve(prepared),
        async (_, classify) => {
          const named: string[][] = [];
          async function* batches(): AsyncGenerator<Batch> {
            for await (const paths of chunksAsTheyCome(pathsOf(args.images, input, onUnread), batchSize)) {
              const { read, pictures } = await readPictures(paths, form, onUnread);
              if (read.length === 0) continue;
              named.push(read);
              for (let view = 0; view < args.views; view++) yield viewBatch(pictures, form, view);
            }
          }
          let views: Float32Array[] = [];
          for await (const probabilities of classify(batches())) {
            views.push(probabilities);
            if (views.length < args.views) continue;
            const p = averageViews(views);
            views = [];
            const { classes } = model.manifest;
            for (const [i, path] of (named.shift() ?? []).entries()) {
              const top = topClasses(p.subarray(i * classes.length, (i + 1) * classes.length), args.top);
              output.write(args.json === true ? asJson(path, top, classes) : asText(path, top, classes));
            }
          }
        },
      );
    } finally {
      await model.weights.close();
    }
    return unread === 0 ? exitCodes.done : exitCodes.data;
  },
};

/** What files are brought to: the pictures that the checkpoint was trained on, or its network's whole input where it does not say. */
function formOf({ manifest }: Checkpoint): PictureForm {
  const { config, data } = manifest;
  const { inputSize } = networkFor(config);
  const channels = data.mean.length === 1 ? 1 : 3;
  return pictureForm(config, data.picture ?? { height: inputSize, width: inputSize, channels }, inputSize);
}

/** The pictures' paths, one by one: as named, in folders in the order of their names, or on standard input. */
async function* pathsOf(
  images: readonly string[],
  input: NodeJS.ReadStream,
  onUnread: (error: DataError) => void,
): AsyncGenerator<string> {
  for (const image of images) {
    if (image === standardInput) {
      for await (const line of createInterface({ input, crlfDelay: Infinity })) if (line !== '') yield line;
    } else if ((await stat(image).catch(() => undefined))?.isDirectory() === true) {
      const names = (await readdir(image, { recursive: true })).filter(isPictureName).sort();
      if (names.length === 0) onUnread(new DataError(`${image} holds no pictures: no .jpg, .jpeg, .png or .webp`));
      for (const name of names) yield join(image, name);
    } else {
      yield image;
    }
  }
}

/** Those of the files that can be read. */
async function readPictures(
  paths: readonly string[],
  form: PictureForm,
  onUnread: (error: DataError) => void,
): Promise<{ read: string[]; pictures: Uint8Array[] }> {
  const results = await Promise.all(
    paths.map(async (path) => {
      try {
        return [{ path, pixels: await readPictureFile(path, form) }];
      } catch (error) {
        if (!(error instanceof DataError)) throw error;
        onUnread(error);
        return [];
      }
    }),
  );
  const good = results.flat();
  return { read: good.map(({ path }) => path), pictures: good.map(({ pixels }) => pixels) };
}

function asText(path: string, top: readonly RankedClass[], classes: readonly string[]): string {
  const lines = top.map(
    ({ index, probability }) => `${`${(100 * probability).toFixed(1)}%`.padStart(8)}  ${classes[index] ?? ''}`,
  );
  return [path, ...lines, ''].join('\n');
}

function asJson(path: string, top: readonly RankedClass[], classes: readonly string[]): string {
  const named = top.map(({ index, probability }) => ({ class: classes[index], index, probability }));
  return `${JSON.stringify({ path, top: named })}\n`;
}
