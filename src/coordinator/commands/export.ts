// `coordinator export`: a model as a file for others: safetensors, a .npy of layers, or an ONNX graph with its weights.

import { existsSync, realpathSync } from 'node:fs';
import { z } from 'zod';
import { UsageError, assertNever, exitCodes } from '../../spec/errors.ts';
import { networkFor, planNetwork } from '../../spec/network.ts';
import { writeLayersNpy } from '../../formats/npyWriter.ts';
import { writeOnnx } from '../../formats/onnx.ts';
import { writeSafetensors } from '../../formats/safetensors.ts';
import type { NamedTensor } from '../../formats/safetensors.ts';
import { fitWeights } from '../../formats/weightsFile.ts';
import type { WeightsFile } from '../../formats/weightsFile.ts';
import { parseFlags } from '../command.ts';
import type { Command, Flag } from '../command.ts';
import { modelMetadata } from '../modelMetadata.ts';
import { openModel } from '../modelSource.ts';
import type { ModelSource } from '../modelSource.ts';

const formats = ['safetensors', 'npy', 'onnx'] as const;

const exportFlags = {
  checkpoint: {
    type: 'string',
    requiresArg: true,
    demandOption: true,
    describe: "A run's folder (its newest whole checkpoint), a checkpoint, or a file of weights",
  },
  format: {
    type: 'string',
    requiresArg: true,
    demandOption: true,
    choices: formats,
    describe: 'safetensors; npy in the layout of bvlc_alexnet; or onnx, pixels in and probabilities out',
  },
  out: { type: 'string', requiresArg: true, demandOption: true, describe: 'The file to write' },
  force: { type: 'boolean', describe: 'Write over a file that is there' },
} as const satisfies Record<string, Flag>;

const exportSchema = z.object({
  checkpoint: z.string().min(1),
  format: z.enum(formats),
  out: z.string().min(1),
  force: z.boolean().optional(),
});

export const exportModel: Command = {
  name: 'export',
  describe: 'Write a trained model as safetensors, .npy or ONNX',
  flags: exportFlags,
  examples: [
    ['export --checkpoint runs/mine --format onnx --out model.onnx', 'for ONNX Runtime and its kin'],
    ['export --checkpoint runs/mine/checkpoints/best --format npy --out model.npy', 'the best checkpoint, for NumPy'],
  ],

  async run(argv, { output }) {
    const { checkpoint, format, out, force } = parseFlags(exportSchema, argv);
    if (force !== true && existsSync(out))
      throw new UsageError(`--out: ${out} is there already: choose another name, or add --force`);
    const say = (line: string): void => {
      output.write(`${line}\n`);
    };
    const model = await openModel(checkpoint, say);
    try {
      if (existsSync(out) && realpathSync(out) === realpathSync(model.weights.path))
        throw new UsageError(`--out: ${out} is the model itself`);
      const { bytes } = await write(model, format, out);
      say(`${out}: ${(bytes / 1e6).toFixed(1)} MB, from ${model.path}`);
    } finally {
      await model.weights.close();
    }
    return exitCodes.done;
  },
};

function write({ manifest, path, weights }: ModelSource, format: (typeof formats)[number], out: string) {
  const shapes = [...weights.shapes].map(([name, shape]) => ({ name, shape }));
  const metadata = manifest === undefined ? weights.metadata : modelMetadata(manifest);
  switch (format) {
    case 'safetensors':
      return writeSafetensors(out, shapes, tensorsOf(weights), metadata);
    case 'npy':
      return writeLayersNpy(out, tensorsOf(weights));
    case 'onnx': {
      if (manifest === undefined) {
        throw new UsageError(
          `--format onnx: ${path} holds weights alone, and a graph needs the run's config, classes and mean colour: name its checkpoint, or make one with \`coordinator import\``,
        );
      }
      const plan = planNetwork(networkFor(manifest.config), manifest.classes.length);
      fitWeights(weights, plan);
      return writeOnnx(out, { plan, rule: { ...manifest.config, ...manifest.data }, metadata }, (name) => weights.read(name));
    }
    default:
      return assertNever(format);
  }
}

async function* tensorsOf(weights: WeightsFile): AsyncGenerator<NamedTensor> {
  for (const [name, shape] of weights.shapes) yield { name, shape, values: await weights.read(name) };
}
