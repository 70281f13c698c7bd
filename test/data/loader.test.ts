// The threads run the built code (Node 20 runs no TypeScript): build before these tests.

import { pathToFileURL } from 'node:url';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { BatchRequest } from '../../src/data/batch.ts';
import { Loader, loaderThreadFile } from '../../src/data/loader.ts';
import type { LoaderSetup } from '../../src/data/loader.ts';
import { batchBytes, packBatch } from '../../src/data/pack.ts';
import type { PackedBatch } from '../../src/data/pack.ts';
import { openPictures } from '../../src/data/pictures.ts';
import { DataError } from '../../src/spec/errors.ts';
import { temporaryFolder } from './idxFiles.ts';
import { memoryStore } from './memoryStore.ts';

const shape = { height: 20, width: 24, channels: 3 } as const;
const testPixels = memoryStore(shape, 10, { byteAt: (i) => i % 251 });
const setup: LoaderSetup = {
  splits: { train: memoryStore(shape, 50), test: testPixels },
  augment: { seed: 3, augment: 'crop-flip', cropSize: 16 },
};

function startLoader(threads: number, threadFile = loaderThreadFile): Loader {
  const loader = new Loader(setup, { threads, threadFile });
  onTestFinished(() => loader.close());
  return loader;
}

function packInPlace(request: BatchRequest): Promise<PackedBatch> {
  const split = setup.splits[request.split];
  const memory = new ArrayBuffer(batchBytes(split.shape, setup.augment, request.indices.length));
  return packBatch(openPictures(split), setup.augment, request, memory);
}

const requests: readonly BatchRequest[] = Array.from({ length: 12 }, (_, i) => ({
  split: i % 4 === 3 ? ('test' as const) : ('train' as const),
  epoch: i % 3,
  indices: Uint32Array.of(i % 10, 9, 0, (i * 7) % 10),
}));

/** A thread that does something wrong at its first request. */
async function threadThat(code: string): Promise<URL> {
  const file = join(await temporaryFolder(), 'thread.mjs');
  await writeFile(file, `import { parentPort } from 'node:worker_threads';\nparentPort.on('message', () => { ${code} });\n`);
  return pathToFileURL(file);
}

describe('the loader', () => {
  test.each([1, 3])('gives with %i threads what packing in place gives', async (threads) => {
    const loader = startLoader(threads);
    const loaded = await Promise.all(requests.map((request) => loader.load(request)));
    const packed: PackedBatch[] = [];
    for (const request of requests) packed.push(await packInPlace(request));
    expect(loaded).toEqual(packed.map(({ bad: _, ...batch }) => batch));
    expect(loaded[0]?.shape).toEqual({ height: 16, width: 16, channels: 3 });
    expect(loaded[0]?.pixels.length).toBe(4 * 16 * 16 * 3);
  });

  test('writes over the pixels of a batch that was released, and over no others', async () => {
    const loader = startLoader(1);
    const [first, second, third] = requests as [BatchRequest, BatchRequest, BatchRequest];
    const released = await loader.load(first);
    const kept = await loader.load(second);
    const { pixels } = await packInPlace(second);
    // What lies there must not shine through where a picture has padding.
    released.pixels.fill(255);
    loader.release(released);
    const written = await loader.load(third);
    expect(written.pixels.buffer).toBe(released.pixels.buffer);
    expect(written.pixels).toEqual((await packInPlace(third)).pixels);
    expect(kept.pixels).toEqual(pixels);
    expect((await loader.load(third)).pixels.buffer).not.toBe(written.pixels.buffer);
  });

  test('gives a test picture its centre in every epoch', async () => {
    const loader = startLoader(1);
    const indices = Uint32Array.of(4);
    const first = await loader.load({ split: 'test', epoch: 0, indices });
    expect(await loader.load({ split: 'test', epoch: 9, indices })).toEqual(first);
    const [row, column] = [2, 4];
    expect(first.pixels[0]).toBe(testPixels.pixels[4 * 20 * 24 * 3 + (row * 24 + column) * 3]);
  });

  test('rejects the load that fails and serves the next', async () => {
    const loader = startLoader(1);
    const outside = loader.load({ split: 'test', epoch: 0, indices: Uint32Array.of(10) });
    const inside = loader.load({ split: 'test', epoch: 0, indices: Uint32Array.of(9) });
    await expect(outside).rejects.toThrow('there is no picture 10: the split has 10');
    expect((await inside).labels).toEqual(Int32Array.of(1));
  });

  test.each([
    ['throws', "throw new Error('out of paper')", /thread died: out of paper/],
    ['exits', 'process.exit(7)', /stopped with exit code 7/],
  ])('rejects everything pending and to come when a thread %s', async (_, code, message) => {
    const loader = startLoader(2, await threadThat(code));
    const pending = requests.map((request) => loader.load(request));
    const settled = await Promise.allSettled(pending);
    for (const outcome of settled) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: expect.any(DataError) as unknown });
    }
    const late = loader.load({ split: 'train', epoch: 0, indices: Uint32Array.of(0) });
    await expect(late).rejects.toThrow(message);
  });

  test('rejects what is pending when it is closed, and closes twice', async () => {
    const loader = startLoader(1, await threadThat(''));
    const pending = loader.load({ split: 'train', epoch: 0, indices: Uint32Array.of(0) });
    const rejected = expect(pending).rejects.toThrow(/was closed/);
    await loader.close();
    await rejected;
    await loader.close();
  });
});
