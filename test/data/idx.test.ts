import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseIdx, readIdx } from '../../src/data/idx.ts';
import { DataError } from '../../src/spec/errors.ts';
import { idxBytes, temporaryFolder } from './idxFiles.ts';

const values = Uint8Array.from({ length: 24 }, (_, i) => i * 10);
const good = idxBytes([4, 3, 2], values);

async function fileOf(bytes: Uint8Array): Promise<string> {
  const path = join(await temporaryFolder(), 'pictures');
  await writeFile(path, bytes);
  return path;
}

function withLastBytes(bytes: Buffer, count: number, value: number): Buffer {
  return Buffer.concat([bytes.subarray(0, bytes.length - count), Buffer.alloc(count, value)]);
}

async function* chunksOf(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let start = 0; start < bytes.length; start += size) yield await Promise.resolve(bytes.subarray(start, start + size));
}

const limits = { name: 'fuzzed', dimensionCount: 3, maxValues: 2 ** 16 };

describe('an IDX file', () => {
  test.each([
    ['plain', good],
    ['gzip', gzipSync(good)],
  ])('is read as %s, whatever its name', async (_, bytes) => {
    const array = await readIdx(await fileOf(bytes), 3);
    expect(array.dimensions).toEqual([4, 3, 2]);
    expect([...array.values]).toEqual([...values]);
  });

  test('reads the same in chunks of any size', async () => {
    for (let size = 1; size <= good.length; size++) {
      const array = await parseIdx(chunksOf(good, size), limits);
      expect([...array.values]).toEqual([...values]);
    }
  });

  test.each<[string, Uint8Array, RegExp]>([
    ['without two zero bytes', Buffer.concat([Buffer.of(1), good.subarray(1)]), /not an IDX file/],
    ['of floats', idxBytes([4, 3, 2], values, { type: 13 }), /type 13/],
    ['of other dimensions', idxBytes([24], new Uint8Array(24)), /1 dimensions, where 3/],
    ['that is empty', Buffer.alloc(0), /ends after 0 bytes, inside the IDX header/],
    ['cut in its header', good.subarray(0, 9), /inside the IDX header/],
    ['cut in its values', good.subarray(0, good.length - 1), /ends after 23 of the 24/],
    ['with a byte too many', Buffer.concat([good, Buffer.of(0)]), /more bytes than the 24/],
    ['that claims more than its size', idxBytes([60000, 28, 28], values), /60000x28x28/],
    ['whose size overflows', idxBytes([0xffffffff, 0xffffffff, 0xffffffff], values), /4294967295x/],
    ['cut in its gzip stream', gzipSync(good).subarray(0, 30), /cannot be read: unexpected end of file/],
    ['with a wrong checksum in its gzip stream', withLastBytes(gzipSync(good), 8, 0xff), /cannot be read: incorrect data check/],
    ['with bytes after its gzip stream', Buffer.concat([gzipSync(good), Buffer.alloc(8)]), /follow the end of the gzip/],
    ['that is a gzip bomb and says so', gzipSync(idxBytes([30000, 28, 28], new Uint8Array(30000 * 784))), /30000x28x28/],
    [
      'that is a gzip bomb behind a small header',
      gzipSync(idxBytes([1, 1, 1], new Uint8Array(2 ** 26))),
      /more bytes than the 1/,
    ],
  ])('%s is refused with its name', async (_, bytes, message) => {
    const path = await fileOf(bytes);
    const reading = readIdx(path, 3);
    await expect(reading).rejects.toThrow(message);
    await expect(reading).rejects.toThrow(path);
    await expect(reading).rejects.toBeInstanceOf(DataError);
  });

  test('that is not there, or is a folder, is refused with its name', async () => {
    const folder = await temporaryFolder();
    await expect(readIdx(folder, 3)).rejects.toThrow(`${folder} is not a file`);
    await expect(readIdx(join(folder, 'none'), 3)).rejects.toThrow(DataError);
  });

  test('of labels that compress beyond the ratio for pictures is read', async () => {
    const array = await readIdx(await fileOf(gzipSync(idxBytes([60000], new Uint8Array(60000)))), 1);
    expect(array.values.length).toBe(60000);
  });

  test('whose bytes are changed at random is read or refused with DataError, never anything else', async () => {
    const changes = fc.array(fc.record({ at: fc.nat(good.length - 1), to: fc.nat(255) }), { minLength: 1, maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(changes, fc.nat(good.length), fc.integer({ min: 1, max: 40 }), async (edits, length, chunk) => {
        const bytes = Buffer.from(good);
        for (const { at, to } of edits) bytes[at] = to;
        const outcome = await parseIdx(chunksOf(bytes.subarray(0, length), chunk), limits).catch((error: unknown) => error);
        if (outcome instanceof Error) expect(outcome).toBeInstanceOf(DataError);
      }),
      { numRuns: 500 },
    );
  });

  test('of random bytes in a gzip stream is refused with DataError', async () => {
    const folder = await temporaryFolder();
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 60 }), fc.nat(40), async (bytes, keep) => {
        const path = join(folder, 'fuzzed');
        await writeFile(path, Buffer.concat([gzipSync(good).subarray(0, 2 + keep), bytes]));
        const outcome = await readIdx(path, 3).catch((error: unknown) => error);
        if (outcome instanceof Error) expect(outcome).toBeInstanceOf(DataError);
      }),
      { numRuns: 100 },
    );
  });
});
