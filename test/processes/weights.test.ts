// Weights out and in again through the real commands: every format comes back as the checkpoint it left, and fine-tuning from one keeps
// what it freezes.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openWeights } from '../../src/formats/weightsFile.ts';
import { Stage } from './stage.ts';
import type { Command } from './stage.ts';

const stage = new Stage();
const soonMs = 30_000;
const formats = ['safetensors', 'npy', 'onnx'] as const;

async function coordinator(...args: readonly string[]): Promise<Command> {
  const command = stage.start(process.execPath, [stage.scripts.coordinator, ...args]);
  await command.exit(soonMs);
  return command;
}

/** Runs a command that must succeed. */
async function succeed(...args: readonly string[]): Promise<Command> {
  const command = await coordinator(...args);
  expect(await command.exit(0), command.output).toBe(0);
  return command;
}

async function tensorsOf(path: string): Promise<Map<string, Float32Array>> {
  const file = await openWeights(stage.path(path));
  const tensors = new Map<string, Float32Array>();
  for (const name of file.shapes.keys()) tensors.set(name, await file.read(name));
  await file.close();
  return tensors;
}

beforeAll(async () => {
  await stage.trainedModel({ steps: 4, 'checkpoint-every': 2, pixels: 'standardized', lrn: 'global' }, 'run');
  await Promise.all(
    formats.map((format) => succeed('export', '--checkpoint', 'run', '--format', format, '--out', `model.${format}`)),
  );
});
afterAll(async () => {
  await stage.expectEmpty();
  stage.clear();
});

describe('what export wrote', () => {
  test.each(formats)('as %s is imported as the checkpoint that it came from', async (format) => {
    // A .npy says nothing of itself.
    const facts = ['--network', 'tiny', '--classes', '10', '--mean', '127,127,127', '--lrn', 'global'];
    await succeed('import', '--weights', `model.${format}`, '--out', `from-${format}`, ...(format === 'npy' ? facts : []));
    expect(await tensorsOf(`from-${format}/model.safetensors`)).toEqual(await tensorsOf('run/model.safetensors'));
    for (const values of (await tensorsOf(`from-${format}/momentum.safetensors`)).values())
      expect(values.every((v) => v === 0)).toBe(true);
    if (format === 'npy') return;
    const manifestOf = (folder: string) =>
      JSON.parse(readFileSync(join(stage.path(folder), 'manifest.json'), 'utf8')) as Record<
        'classes' | 'data' | 'config',
        object
      >;
    const [before, after] = [manifestOf('run/checkpoints/last'), manifestOf(`from-${format}`)];
    expect(after.classes).toEqual(before.classes);
    expect(after.data).toEqual({ ...before.data, train: 0, test: 0 });
    expect(after.config).toMatchObject({ network: 'tiny', pixels: 'standardized', lrn: 'global' });
  });

  test('from a checkpoint of its own, or a file of weights, is the same; onnx needs a checkpoint', async () => {
    await succeed('export', '--checkpoint', 'run/checkpoints/step-00000004', '--format', 'onnx', '--out', 'again.onnx');
    expect(readFileSync(stage.path('again.onnx')).equals(readFileSync(stage.path('model.onnx')))).toBe(true);
    await succeed('export', '--checkpoint', 'run/model.safetensors', '--format', 'npy', '--out', 'again.npy');
    expect(readFileSync(stage.path('again.npy')).equals(readFileSync(stage.path('model.npy')))).toBe(true);
    const refused = await coordinator('export', '--checkpoint', 'run/model.safetensors', '--format', 'onnx', '--out', 'no.onnx');
    expect(await refused.exit(0)).toBe(2);
    expect(refused.lastLine).toMatch(/holds weights alone, and a graph needs the run's config.*name its checkpoint/);
  });

  test('is never written over without --force, and neither is a checkpoint', async () => {
    writeFileSync(stage.path('mine.npy'), 'mine');
    const args = ['export', '--checkpoint', 'run', '--format', 'npy', '--out', 'mine.npy'];
    const refused = await coordinator(...args);
    expect(await refused.exit(0)).toBe(2);
    expect(refused.lastLine).toMatch(/mine.npy is there already: choose another name, or add --force/);
    expect(readFileSync(stage.path('mine.npy'), 'utf8')).toBe('mine');
    await succeed(...args, '--force');
    expect(readFileSync(stage.path('mine.npy')).equals(readFileSync(stage.path('model.npy')))).toBe(true);
    const over = await coordinator('import', '--weights', 'model.onnx', '--out', 'run');
    expect(await over.exit(0)).toBe(2);
    const self = await coordinator(...args.slice(0, -1), 'run/checkpoints/last/model.safetensors', '--force');
    expect(await self.exit(0)).toBe(2);
  });
});

describe('import', () => {
  test('that lacks something is refused, and leaves nothing', async () => {
    const refusals: [string, number, RegExp][] = [
      ['--network tiny --mean 1,2,3', 2, /names no classes: add --class-names FILE, or --classes N/],
      ['--network tiny --classes 10', 2, /names no mean colour: add --mean/],
      ['--network tiny --classes 10 --mean 1,2,3 --skip fc8', 2, /import draws none/],
      ['--network tiny --classes 7 --mean 1,2,3', 5, /fc8.weight has shape \[32, 10\], tiny with 7 classes needs \[32, 7\]$/],
      ['--network compact --classes 10 --mean 1,2,3', 5, /conv1.weight has shape \[5, 5, 3, 8\]/],
    ];
    const check = async ([flags, code, message]: (typeof refusals)[number]): Promise<void> => {
      const command = await coordinator('import', '--weights', 'model.npy', '--out', 'none', ...flags.split(' '));
      expect(await command.exit(0), command.output).toBe(code);
      expect(command.lastLine).toMatch(message);
    };
    await Promise.all(refusals.map(check));
    expect(existsSync(stage.path('none'))).toBe(false);
  });

  test('makes a checkpoint that --resume goes on from, in a folder of its own', async () => {
    const names = readFileSync(stage.path('run/checkpoints/last/manifest.json'), 'utf8');
    const { classes } = JSON.parse(names) as { classes: string[] };
    writeFileSync(stage.path('names.txt'), classes.map((name) => `${name}\n`).join(''));
    const flags = { network: 'tiny', data: 'synthetic:64,10,640', batch: '16', mean: '127,127,127', steps: '2' };
    const config = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]);
    await succeed('import', '--weights', 'model.npy', '--class-names', 'names.txt', '--out', 'whole', ...config);
    const resumed = await succeed('start', '--resume', 'whole', '--run-dir', 'on', '--local', 'cpu', '--threads', '1');
    expect(resumed.output).toMatch(/going on after step 0, from .*whole/);
    expect(stage.steps('on').map(({ step }) => step)).toEqual([1, 2]);
  });
});

describe('--pretrained', () => {
  /** Five classes instead of ten. */
  const other = { data: 'synthetic:64,5,320', steps: 3 } as const;

  test.each(['model.npy', 'run'])('%s with another fc8 trains what is named, and nothing else', async (from) => {
    const runDir = `tuned-${from}`;
    await stage.trainedModel({ ...other, pretrained: from, skip: 'fc8', 'train-only': 'fc7,fc8' }, runDir);
    const [before, after] = [await tensorsOf('run/model.safetensors'), await tensorsOf(`${runDir}/model.safetensors`)];
    for (const [name, values] of before) {
      if (/^(conv|fc6)/.test(name)) expect(after.get(name), name).toEqual(values);
    }
    expect(after.get('fc7.weight')).not.toEqual(before.get('fc7.weight'));
    expect(after.get('fc8.bias')).toHaveLength(5);
  });

  test('without --skip names the layer and both shapes', async () => {
    const run = stage.coordinator({ ...other, pretrained: 'model.npy', 'run-dir': 'refused' });
    expect(await run.exit(soonMs)).toBe(5);
    expect(run.lastLine).toMatch(
      /model.npy: fc8.weight has shape \[32, 10\], tiny with 5 classes needs \[32, 5\]; draw it afresh with --skip fc8/,
    );
  });
});
