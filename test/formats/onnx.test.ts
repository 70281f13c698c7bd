// Our ONNX files under somebody else's runtime: the logits are those of both towers, whatever is switched; and they are read back to the bit.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { writeOnnx } from '../../src/formats/onnx.ts';
import type { PixelRule } from '../../src/formats/onnxGraph.ts';
import { openWeights } from '../../src/formats/weightsFile.ts';
import { parseRunConfig } from '../../src/spec/config.ts';
import { networkFor, planNetwork } from '../../src/spec/network.ts';
import { keyedMasks } from '../../src/tower/dropout.ts';
import { chooseKernels } from '../../src/tower/kernels.ts';
import { preparePictures } from '../../src/tower/pictures.ts';
import { pythonOr } from '../python.ts';
import { drawMerged } from '../tower/mergedWeights.ts';
import { drawIntegers, relativeError } from '../tower/tensors.ts';
import { TowerPair } from '../tower/towerPair.ts';

const folder = mkdtempSync(join(tmpdir(), 'onnx-'));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

const [pictures, classes] = [3, 10];

/** Strong enough for the response norm to change a map by tens of percent. */
const steep = { lrnK: 1, lrnAlpha: 0.02 };

const variants: Readonly<Record<string, Record<string, unknown>>> = {
  'tiny as it comes': { network: 'tiny' },
  'tiny with every switch': {
    ...{ network: 'tiny', lrn: 'global', activationPlace: 'after-pool', activation: 'tanh', pool: 'disjoint', ...steep },
    ...{ channelOrder: 'bgr', pixels: 'standardized', dropoutForm: 'inverted' },
  },
  'tiny with LRN in its towers, padding and sigmoid': { network: 'tiny', activation: 'sigmoid', cropSize: 48, ...steep },
  'tiny of grey pictures without LRN': { network: 'tiny', lrn: 'none', channelOrder: 'bgr', mean: [90, 90, 90] },
  'the one-tower network': { network: 'tiny-one-tower', ...steep },
  compact: { network: 'compact' },
};

const runOnnx = `
import sys, json, numpy as np, onnxruntime as ort
path, images, shape = sys.argv[1:4]
session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
x = np.fromfile(images, dtype=np.float32).reshape(json.loads(shape))
logits, probabilities = session.run(["logits", "probabilities"], {"images": x})
one = session.run(["logits"], {"images": x[:1]})[0]
print(json.dumps({"logits": logits.ravel().tolist(), "sums": probabilities.sum(axis=1).tolist(), "one": one.ravel().tolist(),
  "metadata": session.get_modelmeta().custom_metadata_map}))
`;

describe.each(Object.entries(variants))('%s', (variant, fields) => {
  test('gives the logits of the towers, for any number of pictures', async ({ skip }) => {
    const python = pythonOr(skip);
    const isGrey = variant.includes('grey');
    const config = parseRunConfig(fields, 'test');
    const plan = planNetwork(networkFor(config), classes);
    const rule: PixelRule = { ...config, mean: isGrey ? [90] : [120, 110, 100], deviation: isGrey ? [60] : [60, 50, 70] };
    const size = plan.spec.inputSize;
    const merged = drawMerged(plan);

    const bytes = Uint8Array.from(drawIntegers('pixels', pictures * size * size * 3, 256));
    const pixels = Uint8Array.from(bytes, (_, i) => bytes[isGrey ? i - (i % 3) : i]!);
    const kernels = chooseKernels();
    const pair = new TowerPair({
      plan,
      kernels,
      dropout: { rate: config.dropout, form: config.dropoutForm },
      masks: (tower) => keyedMasks(1, tower, config.dropout),
      microBatch: 2,
    });
    pair.loadMerged('weights', merged);
    const images = preparePictures(
      isGrey
        ? { count: pictures, height: size, width: size, channels: 1, bytes: pixels.filter((_, i) => i % 3 === 0) }
        : { count: pictures, height: size, width: size, channels: 3, bytes: pixels },
      {
        size,
        padding: plan.spec.inputPadding,
        mean: rule.mean,
        deviation: config.pixels === 'standardized' ? 60 : 1,
        channelOrder: config.channelOrder,
      },
      kernels.shiftPixels,
    );
    await Promise.all(pair.towers.map((tower) => tower.predict(0, images)));
    const expected = pair.logits();
    images.dispose();
    pair.close();

    const path = join(folder, `${variant.replaceAll(' ', '-')}.onnx`);
    const metadata = { network: plan.spec.name, classes: '["à"]' };
    await writeOnnx(path, { plan, rule, metadata }, (name) => Promise.resolve(merged.get(name)!));
    const planes = Float32Array.from(pixels, (_, i) => {
      const [picture, rest] = [Math.floor(i / (3 * size * size)), i % (3 * size * size)];
      const [channel, place] = [Math.floor(rest / (size * size)), rest % (size * size)];
      return pixels[(picture * size * size + place) * 3 + channel]!;
    });
    writeFileSync(join(folder, 'images'), planes);
    const found = JSON.parse(python(runOnnx, path, join(folder, 'images'), JSON.stringify([pictures, 3, size, size]))) as {
      logits: number[];
      sums: number[];
      one: number[];
      metadata: Record<string, string>;
    };
    // Two libraries sum in different orders; 1e-4 is what docs/weights.md promises.
    expect(relativeError(found.logits, expected)).toBeLessThan(1e-4);
    expect(new Set(expected).size).toBe(pictures * classes); // Not all alike, as dead units would be.
    expect(relativeError(found.one, expected.subarray(0, classes))).toBeLessThan(1e-4);
    for (const sum of found.sums) expect(sum).toBeCloseTo(1, 5); // Ten float32 roundings.
    expect(found.metadata).toEqual(metadata);

    const file = await openWeights(path);
    expect(file.metadata).toEqual(metadata);
    expect([...file.shapes.keys()]).toEqual([...merged.keys()]);
    for (const [name, values] of merged) expect(await file.read(name)).toEqual(values);
  });
});

test('an ONNX file that somebody else made is refused: what its axes mean is not known', async () => {
  const path = join(folder, 'theirs.onnx');
  const config = parseRunConfig({ network: 'tiny' }, 'test');
  const plan = planNetwork(networkFor(config), classes);
  const merged = drawMerged(plan);
  const rule: PixelRule = { ...config, mean: [120], deviation: [60] };
  await writeOnnx(path, { plan, rule, metadata: {} }, (name) => Promise.resolve(merged.get(name)!));
  const bytes = readFileSync(path);
  bytes.write('otherthing', bytes.indexOf('crosstower'));
  writeFileSync(path, bytes);
  await expect(openWeights(path)).rejects.toThrow(/it was made by otherthing: only what crosstower exported is read back/);
});
