// `coordinator import`: weights from a file as a checkpoint of step 0, which `start --resume`, `eval`, `predict` and `export` take.
// Invariant: nothing is drawn here: a file that lacks a layer is refused.

import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { runConfigSchema } from '../../spec/config.ts';
import type { RunConfig } from '../../spec/config.ts';
import { UsageError, exitCodes } from '../../spec/errors.ts';
import { mergedShapes, sizeOf } from '../../spec/layout.ts';
import { networkFor, planNetwork } from '../../spec/network.ts';
import type { NetworkPlan } from '../../spec/network.ts';
import { initialScheduleState } from '../../spec/schedule.ts';
import type { NamedTensor } from '../../formats/safetensors.ts';
import { fitWeights } from '../../formats/weightsFile.ts';
import { writeCheckpoint } from '../checkpoint.ts';
import type { Manifest } from '../checkpoint.ts';
import { parseFlags } from '../command.ts';
import type { Command, Flag } from '../command.ts';
import { readModelMetadata } from '../modelMetadata.ts';
import { openModel } from '../modelSource.ts';
import { changeConfig, configFlags, readConfig } from '../options.ts';

const group = 'This command:';

const importFlags = {
  weights: {
    type: 'string',
    requiresArg: true,
    demandOption: true,
    group,
    describe: 'A .npy or .npz in the layout of bvlc_alexnet, .safetensors or .onnx of ours',
  },
  out: {
    type: 'string',
    requiresArg: true,
    demandOption: true,
    group,
    describe: 'Folder of the checkpoint, which must not be there yet',
  },
  classes: { type: 'number', requiresArg: true, group, describe: 'Number of classes, named 0, 1, ...' },
  'class-names': { type: 'string', requiresArg: true, group, describe: 'File with the name of a class a line, in their order' },
  config: { type: 'string', requiresArg: true, group, describe: 'YAML or JSON file with the fields below; flags win over it' },
} as const satisfies Record<string, Flag>;

const importSchema = z.object({
  weights: z.string().min(1),
  out: z.string().min(1),
  classes: z.int().min(2).max(1_000_000).optional(),
  'class-names': z.string().optional(),
  config: z.string().optional(),
});

export const importModel: Command = {
  name: 'import',
  describe: 'Make a checkpoint of weights from a file',
  flags: { ...importFlags, ...configFlags() },
  examples: [
    ['import --weights bvlc_alexnet.npy --preset kratzert --class-names ilsvrc.txt --out caffe', "Caffe's AlexNet"],
    ['import --weights model.onnx --out again', 'what export wrote: it brings its recipe, classes and mean'],
  ],

  async run(argv, { output, packageVersion }) {
    const args = parseFlags(importSchema, argv);
    const say = (line: string): void => {
      output.write(`${line}\n`);
    };
    if (existsSync(args.out)) throw new UsageError(`--out: ${args.out} is there already: a checkpoint is never written over`);
    const { weights } = await openModel(args.weights, say);
    try {
      const known = readModelMetadata(args.weights, weights.metadata);
      const config =
        known.recipe === undefined
          ? readConfig(args.config, argv)
          : changeConfig(runConfigSchema.parse(known.recipe), args.config, argv);
      if (config.skip.length > 0)
        throw new UsageError(
          '--skip: a checkpoint holds every layer, and import draws none: `coordinator start --pretrained FILE --skip ...` does',
        );
      const classes = await classNames(args, known.classes);
      const plan = planNetwork(networkFor(config), classes.length);
      const { unused } = fitWeights(weights, plan);
      if (unused.length > 0) say(`not used: ${unused.slice(0, 10).join(', ')}`);
      const tensors = { weights: tensorsOf(plan, (name) => weights.read(name)), momentum: tensorsOf(plan, zeros(plan)) };
      const colours = coloursOf(args.weights, config, known);
      await writeCheckpoint(args.out, {
        plan,
        tensors,
        facts: {
          packageVersion,
          config,
          classes,
          ...{ run: randomUUID(), generation: 1, step: 0, skippedBefore: 0, metricsBytes: 0 },
          data: { train: 0, test: 0, ...colours },
          schedule: initialScheduleState,
        },
      });
      say(`${args.out}: a checkpoint of ${config.network} with ${String(classes.length)} classes`);
    } finally {
      await weights.close();
    }
    return exitCodes.done;
  },
};

async function classNames(
  { classes, 'class-names': file }: z.infer<typeof importSchema>,
  known: readonly string[] | undefined,
): Promise<string[]> {
  if (file !== undefined) {
    const text = await readFile(file, 'utf8').catch((error: unknown) => {
      throw new UsageError(`--class-names: ${file} could not be read: ${String(error)}`, { cause: error });
    });
    const names = text.replace(/\r?\n$/, '').split(/\r?\n/);
    if (classes !== undefined && classes !== names.length)
      throw new UsageError(`--class-names: ${file} has ${String(names.length)} lines, --classes says ${String(classes)}`);
    return names;
  }
  if (classes !== undefined) return Array.from({ length: classes }, (_, i) => String(i));
  if (known !== undefined) return [...known];
  throw new UsageError('the file names no classes: add --class-names FILE, or --classes N');
}

/** The mean colour that the network was trained with, and the deviation that its pixels were divided by. */
function coloursOf(
  path: string,
  { mean: given, pixels }: RunConfig,
  known: ReturnType<typeof readModelMetadata>,
): Pick<Manifest['data'], 'mean' | 'deviation' | 'picture'> {
  const mean = given ?? known.mean;
  if (mean === undefined) throw new UsageError(`${path} names no mean colour: add --mean R,G,B, as the network was trained with`);
  if (pixels === 'standardized' && known.deviation === undefined)
    throw new UsageError(`--pixels standardized: ${path} names no deviation of its pixels`);
  const { picture } = known;
  return { mean: [...mean], deviation: known.deviation ?? mean.map(() => 1), ...(picture === undefined ? {} : { picture }) };
}

async function* tensorsOf(plan: NetworkPlan, read: (name: string) => Promise<Float32Array>): AsyncGenerator<NamedTensor> {
  for (const [name, shape] of mergedShapes(plan)) yield { name, shape, values: await read(name) };
}

function zeros(plan: NetworkPlan): (name: string) => Promise<Float32Array> {
  const shapes = mergedShapes(plan);
  return (name) => Promise.resolve(new Float32Array(sizeOf(shapes.get(name) ?? [])));
}
