// The files that scripts/golden.py writes, parsed: its header documents the format.

import { readFileSync } from 'node:fs';
import { z } from 'zod';
import type { TensorData } from '../../src/spec/exchange.ts';

function decode(base64: string): ArrayBuffer {
  return Uint8Array.from(Buffer.from(base64, 'base64')).buffer;
}

const shape = z.array(z.int());
const floats = z
  .strictObject({ shape, float32: z.base64() })
  .transform(({ shape, float32 }): TensorData => ({ shape, values: new Float32Array(decode(float32)) }));
const integers = z.strictObject({ shape, int32: z.base64() }).transform(({ int32 }) => new Int32Array(decode(int32)));
const byName = z.record(z.string(), floats);

function layerCase<Kind extends string, Fields extends z.ZodRawShape>(kind: Kind, fields: Fields) {
  return z.object({ kind: z.literal(kind), name: z.string(), ...fields });
}

const activations = { x: floats, y: floats, dy: floats, dx: floats };
const weights = { w: floats, b: floats, dw: floats, db: floats };
const sides = z.object({ top: z.int(), bottom: z.int(), left: z.int(), right: z.int() });
const updates = z.array(z.object({ lr: z.number(), clipScale: z.number(), g: floats, w: floats, v: floats }));

const layerSchema = z.discriminatedUnion('kind', [
  layerCase('convolution', { ...activations, ...weights, stride: z.int(), padding: sides }),
  layerCase('relu', activations),
  layerCase('tanh', activations),
  layerCase('sigmoid', activations),
  layerCase('responseNorm', { ...activations, bias: z.number(), radius: z.int(), alpha: z.number(), beta: z.number() }),
  layerCase('maxPool', { ...activations, size: z.int(), stride: z.int() }),
  layerCase('dense', { ...activations, ...weights }),
  layerCase('dropout', { ...activations, form: z.enum(['paper', 'inverted']), rate: z.number(), mask: floats, yTest: floats }),
  layerCase('softmaxCrossEntropy', {
    logits: floats,
    labels: integers,
    losses: floats,
    loss: z.number(),
    dLogits: floats,
    top1: z.int(),
    top5: z.int(),
  }),
  layerCase('update', {
    momentum: z.number(),
    weightDecay: z.number(),
    biasLr: z.number(),
    biasDecay: z.number(),
    w: floats,
    updates,
  }),
]);

const stepSchema = z.object({
  images: floats,
  labels: integers,
  masks: byName,
  logits: floats,
  loss: z.number(),
  gradientSquaredNorm: z.number(),
  gradients: byName,
});

const tinyStepsSchema = z.object({
  header: z.object({
    classes: z.int(),
    lr: z.number(),
    momentum: z.number(),
    weightDecay: z.number(),
    dropout: z.number(),
    dropoutForm: z.enum(['paper', 'inverted']),
  }),
  parameters: byName,
  steps: z.array(stepSchema),
  finalParameters: byName,
  finalVelocities: byName,
  evaluation: z.object({ imagesOfStep: z.int(), logits: floats, loss: z.number() }),
});

export type LayerCase = z.infer<typeof layerSchema>;

function read(file: string): unknown {
  return JSON.parse(readFileSync(new URL(file, import.meta.url), 'utf8'));
}

/** The layers by themselves; `kind` picks some. */
export function layerCases<Kind extends LayerCase['kind']>(kind: Kind): Extract<LayerCase, { kind: Kind }>[] {
  const { cases } = z.object({ cases: z.array(layerSchema) }).parse(read('layers.json'));
  const found = cases.filter((one): one is Extract<LayerCase, { kind: Kind }> => one.kind === kind);
  if (found.length === 0) throw new Error(`layers.json has no ${kind}`);
  return found;
}

/** Three steps of `tiny`. */
export function tinySteps(): z.infer<typeof tinyStepsSchema> {
  return tinyStepsSchema.parse(read('tiny-steps.json'));
}
