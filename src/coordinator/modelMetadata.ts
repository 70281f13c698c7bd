// What an exported model says of itself, and what `import` takes from it: network and recipe, classes, the mean colour, the
// shape of the pictures.
// Invariant: nothing in it names the machine or the data's place; a file from outside is believed only after it was parsed.

import { z } from 'zod';
import { runConfigSchema } from '../spec/config.ts';
import { DataError } from '../spec/errors.ts';
import { manifestSchema } from './checkpoint.ts';
import type { Manifest } from './checkpoint.ts';

/** The fields of a config that say what the network computes from a picture. */
const recipeSchema = runConfigSchema
  .pick({
    network: true,
    cropSize: true,
    resizeSize: true,
    cropMode: true,
    channelOrder: true,
    pixels: true,
    activation: true,
    activationPlace: true,
    pool: true,
    lrn: true,
    lrnK: true,
    lrnAlpha: true,
    dropout: true,
    dropoutForm: true,
  })
  .strip();

/** The metadata of a model file: texts by name. */
export function modelMetadata({ config, classes, data, step }: Manifest): Record<string, string> {
  return {
    network: config.network,
    step: String(step),
    classes: JSON.stringify(classes),
    mean: JSON.stringify(data.mean),
    deviation: JSON.stringify(data.deviation),
    ...(data.picture === undefined ? {} : { picture: JSON.stringify(data.picture) }),
    recipe: JSON.stringify(recipeSchema.parse(config)),
  };
}

const knownSchema = z.object({
  classes: z.array(z.string().max(1024)).min(2).max(1_000_000).optional(),
  mean: manifestSchema.shape.data.shape.mean.optional(),
  deviation: manifestSchema.shape.data.shape.deviation.optional(),
  picture: manifestSchema.shape.data.shape.picture,
  recipe: recipeSchema.optional(),
});

/** What a file's metadata says, of the above; throws DataError naming the entry that is damaged. */
export function readModelMetadata(path: string, metadata: Readonly<Record<string, string>>): z.infer<typeof knownSchema> {
  const known = Object.keys(knownSchema.shape).flatMap((name) => {
    const text = Object.hasOwn(metadata, name) ? metadata[name] : undefined;
    return text === undefined ? [] : [[name, parsed(path, name, text)] as const];
  });
  const result = knownSchema.safeParse(Object.fromEntries(known));
  if (result.success) return result.data;
  throw new DataError(`${path}: its metadata is damaged: ${result.error.issues[0]?.path.join('.') ?? ''}`);
}

function parsed(path: string, name: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new DataError(`${path}: its metadata is damaged: ${name}`, { cause: error });
  }
}
