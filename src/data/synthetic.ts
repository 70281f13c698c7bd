// Pictures made of keyed noise, for benchmarks and tests without data: reading one costs nothing, for it is a window into a shared pool.
// The pool is a tall picture [rows, SIZE, 3] of bands, one per class: the class's colour plus noise. A picture of class k begins at a random
// pixel of the upper half of band k; with few classes it lies inside its band, with many it runs on through the bands below.
// Invariant: the same spec and seed give the same pixels and labels, and picture i is of class i mod CLASSES.

import { UsageError } from '../spec/errors.ts';
import { randomBelow, randomKey, threefry2x32 } from '../spec/random.ts';
import type { PictureShape, SplitName } from './batch.ts';
import { sharedInt32, sharedUint32 } from './pictures.ts';
import type { Dataset, PictureStore } from './pictures.ts';

export interface SyntheticSpec {
  /** Pixels a side. */
  readonly size: number;
  readonly classes: number;
  /** Training pictures; there is one test picture for eight of them. */
  readonly count: number;
}

const channels = 3;
const defaults: SyntheticSpec = { size: 256, classes: 1000, count: 4096 };
const limits = { size: [1, 1024], classes: [2, 10_000], count: [1, 10_000_000] } as const;
const trainingPicturesPerTestPicture = 8;

/** The bands are as high as fit in this much memory, and at least one row. */
const poolBytes = 4 * 2 ** 20;
/** A pixel is its class's colour (64..191) plus noise (-64..63): it stays in 0..255. */
const colourBase = 64;
const colourRange = 128;
const noiseRange = 128;

const picturesForStatistics = 64;

/** Parses `synthetic[:SIZE[,CLASSES[,COUNT]]]`; undefined for any other text; throws UsageError on numbers that are out of range. */
export function parseSyntheticSpec(text: string): SyntheticSpec | undefined {
  const match = /^synthetic(?::(.*))?$/.exec(text);
  if (match === null) return undefined;
  const parts = match[1]?.split(',') ?? [];
  if (parts.length > 3) throw new UsageError(`${text}: at most three numbers follow synthetic: (SIZE, CLASSES, COUNT)`);
  return {
    size: parsePart(text, parts[0], 'size'),
    classes: parsePart(text, parts[1], 'classes'),
    count: parsePart(text, parts[2], 'count'),
  };
}

function parsePart(text: string, part: string | undefined, field: keyof SyntheticSpec): number {
  if (part === undefined) return defaults[field];
  const [least, most] = limits[field];
  const value = Number(part);
  if (!/^\d+$/.test(part) || value < least || value > most) {
    throw new UsageError(`${text}: ${field} must be a number in ${String(least)}..${String(most)}, not ${JSON.stringify(part)}`);
  }
  return value;
}

/** Makes a synthetic dataset. */
export function syntheticDataset(spec: SyntheticSpec, seed: number): Dataset<PictureStore> {
  const { size, classes, count } = spec;
  const bandRows = Math.min(2 * size, Math.max(1, Math.floor(poolBytes / (classes * size * channels))));
  const pool = drawPool(spec, bandRows, seed);
  return {
    name: `synthetic:${String(size)},${String(classes)},${String(count)}`,
    classes: Array.from({ length: classes }, (_, label) => `class ${String(label)}`),
    splits: {
      train: placePictures(spec, pool, bandRows, seed, 'train', count),
      test: placePictures(spec, pool, bandRows, seed, 'test', Math.ceil(count / trainingPicturesPerTestPicture)),
    },
    statistics: { pictures: Math.min(count, picturesForStatistics) },
  };
}

/** The bands of all classes, and below them those of the first ones again, so that the last class's pictures have room. */
function drawPool({ size, classes }: SyntheticSpec, bandRows: number, seed: number): Uint8Array<SharedArrayBuffer> {
  const rowBytes = size * channels;
  const pool = new Uint8Array(new SharedArrayBuffer((classes * bandRows + size + 1) * rowBytes));
  const noise = drawNoise(pool.length, seed);
  const colourKey = randomKey(seed, 'synthetic', 'colour');
  for (let start = 0, band = 0; start < pool.length; start += bandRows * rowBytes, band++) {
    const end = Math.min(start + bandRows * rowBytes, pool.length);
    const colour = Array.from({ length: channels }, (_, channel) => {
      return colourBase + randomBelow(colourKey, (band % classes) * channels + channel, colourRange);
    });
    for (let i = start; i < end; i++) {
      pool[i] = (colour[i % channels] ?? 0) + ((noise[i] ?? 0) % noiseRange) - noiseRange / 2;
    }
  }
  return pool;
}

function drawNoise(bytes: number, seed: number): Uint8Array {
  const key = randomKey(seed, 'synthetic', 'noise');
  const words = new Uint32Array(2 * Math.ceil(bytes / 8));
  for (let i = 0; i < words.length; i += 2) {
    const [first, second] = threefry2x32(key, [i, 0]);
    words[i] = first;
    words[i + 1] = second;
  }
  return new Uint8Array(words.buffer, 0, bytes);
}

function placePictures(
  { size, classes }: SyntheticSpec,
  pixels: Uint8Array<SharedArrayBuffer>,
  bandRows: number,
  seed: number,
  split: SplitName,
  count: number,
): PictureStore {
  const shape: PictureShape = { height: size, width: size, channels };
  const key = randomKey(seed, 'synthetic', split);
  const places = Math.ceil(bandRows / 2) * size;
  return {
    shape,
    pixels,
    starts: sharedUint32(count, (i) => ((i % classes) * bandRows * size + randomBelow(key, i, places)) * channels),
    labels: sharedInt32(count, (i) => i % classes),
  };
}
