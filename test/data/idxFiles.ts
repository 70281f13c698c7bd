// Writes IDX files for tests, right ones and wrong ones.

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';

/** The bytes of an IDX file; `values` need not be as many as the dimensions say. */
export function idxBytes(
  dimensions: readonly number[],
  values: Uint8Array,
  { type = 8, dimensionCount = dimensions.length } = {},
): Buffer {
  const header = Buffer.alloc(4 + 4 * dimensions.length);
  header[2] = type;
  header[3] = dimensionCount;
  dimensions.forEach((length, axis) => header.writeUInt32BE(length, 4 + 4 * axis));
  return Buffer.concat([header, values]);
}

/** An empty folder that is gone when the test is over. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'crosstower-data-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A folder of four small IDX files, each of which a test may replace (null: left out). */
export async function idxFolder(replaced: Readonly<Record<string, Uint8Array | null>> = {}): Promise<string> {
  const folder = await temporaryFolder();
  const files: Record<string, Uint8Array | null> = {
    'train-images-idx3-ubyte': idxBytes(
      [6, 4, 4],
      Uint8Array.from({ length: 96 }, (_, i) => i),
    ),
    'train-labels-idx1-ubyte': idxBytes([6], Uint8Array.of(0, 1, 2, 0, 1, 2)),
    't10k-images-idx3-ubyte': idxBytes(
      [2, 4, 4],
      Uint8Array.from({ length: 32 }, (_, i) => 255 - i),
    ),
    't10k-labels-idx1-ubyte': idxBytes([2], Uint8Array.of(2, 0)),
    ...replaced,
  };
  for (const [name, bytes] of Object.entries(files)) {
    if (bytes !== null) await writeFile(join(folder, name), bytes);
  }
  return folder;
}
