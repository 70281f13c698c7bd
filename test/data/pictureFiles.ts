// Picture files as tests need them, made with sharp: colours in the corners, so that what decoding does to them can be seen.

import { mkdtempSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import sharp from 'sharp';
import type { Sharp } from 'sharp';
import { onTestFinished } from 'vitest';
import { rmSync } from 'node:fs';

export type Rgb = readonly [number, number, number];

/** A folder that goes away with the test. */
export function pictureFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'pictures-'));
  onTestFinished(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  return folder;
}

/** A picture of one colour. */
export function plain(colour: Rgb, width = 40, height = 30): Sharp {
  const [r, g, b] = colour;
  return sharp({ create: { width, height, channels: 3, background: { r, g, b } } });
}

/** A picture whose left half has one colour and whose right half another. */
export function halves(left: Rgb, right: Rgb, width: number, height: number): Sharp {
  const pixels = Buffer.alloc(width * height * 3);
  for (let i = 0; i < width * height; i++) pixels.set(i % width < width / 2 ? left : right, 3 * i);
  return sharp(pixels, { raw: { width, height, channels: 3 } });
}

/** Writes a file, and the folders that it needs. */
export async function put(path: string, content: Uint8Array | string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, content);
}

/** `root/SPLIT/CLASS/N.jpg`: each class has its colour. */
export async function classFolder(
  root: string,
  splits: Readonly<Record<string, number>>,
  colours: Readonly<Record<string, Rgb>>,
): Promise<void> {
  for (const [split, count] of Object.entries(splits)) {
    for (const [name, colour] of Object.entries(colours)) {
      for (let i = 0; i < count; i++) {
        // Every picture a little different, so that their order can be told.
        const shade = colour.map((value) => Math.min(255, value + i)) as unknown as Rgb;
        await put(join(root, split, name, `${i}.png`), await plain(shade).png().toBuffer());
      }
    }
  }
}
