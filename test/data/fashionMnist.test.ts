import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { cacheFolder, fashionMnistFolder, fashionMnistSources } from '../../src/data/fashionMnist.ts';
import type { FileSource } from '../../src/data/fashionMnist.ts';
import { DataError } from '../../src/spec/errors.ts';
import { temporaryFolder } from './idxFiles.ts';

const nothing = () => undefined;

function sourceOf(name: string, contentOf: () => Buffer): FileSource {
  return { name, open: () => Promise.resolve(Readable.from([contentOf()])) };
}

const broken: FileSource = { name: 'a broken source', open: () => Promise.reject(new Error('not here')) };

describe('the cache folder', () => {
  test('is the one named, else below the folder of all caches', () => {
    expect(cacheFolder({ CROSSTOWER_CACHE: '/a', XDG_CACHE_HOME: '/b' })).toBe('/a');
    expect(cacheFolder({ CROSSTOWER_CACHE: '', XDG_CACHE_HOME: '/b' })).toBe('/b/crosstower');
    expect(cacheFolder({})).toBe(join(homedir(), '.cache', 'crosstower'));
  });
});

describe('Fashion-MNIST that cannot be had', () => {
  test('is a DataError that says what was tried and what to do, and leaves nothing behind', async () => {
    const cache = await temporaryFolder();
    const wrongContent = sourceOf('a changed source', () => gzipSync(Buffer.from('something else')));
    const notGzip = sourceOf('a captive portal', () => Buffer.from('<html>'));
    const bomb = sourceOf('a bomb', () => gzipSync(Buffer.alloc(48_000_000)));
    const getting = fashionMnistFolder(cache, { sources: [broken, wrongContent, notGzip, bomb], log: nothing });
    await expect(getting).rejects.toBeInstanceOf(DataError);
    await expect(getting).rejects.toThrow(
      /a broken source: not here; a changed source: .*SHA-256 differs.*; a captive portal: incorrect header check; a bomb: .* is longer/,
    );
    await expect(getting).rejects.toThrow(/--data/);
    expect(await readdir(join(cache, 'fashion-mnist'))).toEqual([]);
  });

  test('replaces nothing that is damaged, and says that it is', async () => {
    const cache = await temporaryFolder();
    await mkdir(join(cache, 'fashion-mnist'));
    await writeFile(join(cache, 'fashion-mnist', 't10k-labels-idx1-ubyte'), Buffer.alloc(10_008));
    const lines: string[] = [];
    const getting = fashionMnistFolder(cache, { sources: [broken], log: (line) => lines.push(line) });
    await expect(getting).rejects.toThrow(DataError);
    expect(lines).toEqual([expect.stringMatching(/t10k-labels-idx1-ubyte .* is damaged/)]);
  });

  test('because the cache cannot be written to names the variable to set', async () => {
    const file = join(await temporaryFolder(), 'file');
    await writeFile(file, '');
    await expect(fashionMnistFolder(file, { sources: [], log: nothing })).rejects.toThrow(/CROSSTOWER_CACHE/);
  });
});

describe('the published address', () => {
  const published = fashionMnistSources().at(-1);

  afterEach(() => {
    vi.unstubAllGlobals();
  });

  test('is asked for the file by its name', async () => {
    const asked: string[] = [];
    vi.stubGlobal('fetch', (address: string) => {
      asked.push(address);
      return Promise.resolve(new Response('content'));
    });
    const opened = await published?.open('t10k-labels-idx1-ubyte', '');
    expect((await opened?.toArray())?.join('')).toBe('content');
    expect(asked).toEqual([expect.stringMatching(/^http:.*\/t10k-labels-idx1-ubyte\.gz$/)]);
  });

  test('that does not have it is an error with its answer', async () => {
    vi.stubGlobal('fetch', () => Promise.resolve(new Response('', { status: 404 })));
    await expect(published?.open('t10k-labels-idx1-ubyte', '')).rejects.toThrow(/answered 404/);
  });
});
