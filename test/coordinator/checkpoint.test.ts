// Checkpoints as folders: whole or not there, and never believed unchecked.

import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseRunConfig } from '../../src/spec/config.ts';
import { StorageError } from '../../src/spec/errors.ts';
import { mergedShapes, sizeOf, towerParameters, towers } from '../../src/spec/layout.ts';
import { networks, planNetwork } from '../../src/spec/network.ts';
import { openSafetensors } from '../../src/formats/safetensors.ts';
import type { NamedTensor } from '../../src/formats/safetensors.ts';
import { checkpointName, readCheckpoint, stepOfName, writeCheckpoint } from '../../src/coordinator/checkpoint.ts';
import type { ManifestFacts } from '../../src/coordinator/checkpoint.ts';
import { stateFrom } from '../../src/coordinator/initialState.ts';

const plan = planNetwork(networks.tiny, 3);
const facts: ManifestFacts = {
  packageVersion: '0',
  run: 'r1',
  generation: 1,
  step: 12,
  config: parseRunConfig({ network: 'tiny' }, 'test'),
  classes: ['a', 'b', 'c'],
  data: { train: 10, test: 5, mean: [1], deviation: [2] },
  schedule: { bestError: 0.25, evaluationsSince: 2, drops: 1 },
  skippedBefore: 0,
  metricsBytes: 0,
};

async function* tensorsOf(value: number, fail = false): AsyncGenerator<NamedTensor> {
  for (const [name, shape] of mergedShapes(plan)) {
    await Promise.resolve();
    if (fail && name === 'fc6.weight') throw new Error('the tower is gone');
    yield { name, shape, values: Float32Array.from({ length: sizeOf(shape) }, (_, i) => value + i) };
  }
}

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'checkpoint-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

async function written(step = 12): Promise<string> {
  const path = join(folder, checkpointName(step));
  const tensors = { weights: tensorsOf(1), momentum: tensorsOf(0.5) };
  await writeCheckpoint(path, { plan, tensors, facts: { ...facts, step } });
  return path;
}

describe('a checkpoint', () => {
  test('reads back as it was written, and leaves nothing beside it', async () => {
    const path = await written();
    const { files, format, version, ...read } = await readCheckpoint(path);
    expect({ format, version }).toEqual({ format: 'crosstower-checkpoint', version: 1 });
    expect(read).toEqual(facts);
    expect(Object.keys(files)).toEqual(['model.safetensors', 'momentum.safetensors']);
    expect(readdirSync(folder)).toEqual([checkpointName(12)]);
    expect(stepOfName(path)).toBe(12);
  });

  test('that fails half-way is not there, and the one of the same name before it still is', async () => {
    const path = await written();
    const failing = { weights: tensorsOf(1), momentum: tensorsOf(0, true) };
    await expect(writeCheckpoint(path, { plan, tensors: failing, facts })).rejects.toThrow(StorageError);
    expect(readdirSync(folder)).toEqual([checkpointName(12)]);
    await readCheckpoint(path);
  });

  test.each(['model.safetensors', 'momentum.safetensors', 'manifest.json'])(
    'with one bit of %s changed is refused by name',
    async (name) => {
      const path = await written();
      const bytes = readFileSync(join(path, name));
      const at = name === 'manifest.json' ? bytes.indexOf('"sha256": "') + 12 : bytes.length - 9;
      bytes[at] = (bytes[at] ?? 0) ^ 1;
      writeFileSync(join(path, name), bytes);
      await expect(readCheckpoint(path)).rejects.toThrow(/step-00000012 is broken: /);
    },
  );

  test('whose manifest names a file elsewhere is refused', async () => {
    const path = await written();
    const manifest = readFileSync(join(path, 'manifest.json'), 'utf8');
    writeFileSync(join(path, 'manifest.json'), manifest.replace('"momentum.safetensors"', '"../momentum.safetensors"'));
    await expect(readCheckpoint(path)).rejects.toThrow(/manifest.json/);
  });
});

test('the blocks that the towers are sent cover the network, each once', async () => {
  const path = await written();
  const file = await openSafetensors(join(path, 'model.safetensors'));
  const source = { names: new Set(file.shapes.keys()), read: (name: string) => file.read(name) };
  const state = stateFrom(plan, { weights: source, momentum: source });
  for (const tower of towers) {
    const sent: string[] = [];
    for await (const { name, of, values } of state.blocks(tower)) {
      sent.push(`${of} ${name}`);
      expect(values).toHaveLength(sizeOf(towerParameters(plan, tower).find((block) => block.name === name)?.shape ?? []));
    }
    expect(sent).toHaveLength(state.blockCount(tower));
    expect(new Set(sent).size).toBe(2 * towerParameters(plan, tower).length);
  }
  const partly = stateFrom(plan, { weights: { ...source, names: new Set(['conv3.weight', 'conv3.bias']) } });
  expect(partly.blockCount(0)).toBe(3);
  await file.close();
});
