// Pictures in files, however they are laid out, through the real loader threads: build before these tests.

import { rmSync, symlinkSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { pack } from 'tar-stream';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { DataSource } from '../../src/data/batch.ts';
import { cifarFolder } from '../../src/data/cifar.ts';
import { openData } from '../../src/data/openData.ts';
import type { DataConfig } from '../../src/data/openData.ts';
import { expandBraces } from '../../src/data/tarShards.ts';
import { parseRunConfig } from '../../src/spec/config.ts';
import { DataError } from '../../src/spec/errors.ts';
import { classFolder, pictureFolder, plain, put } from './pictureFiles.ts';
import type { Rgb } from './pictureFiles.ts';

const colours = { blue: [10, 20, 200], green: [30, 180, 40], 'red ü': [220, 30, 20] } as const;
const names = Object.keys(colours).sort();

async function opened(
  config: Partial<DataConfig>,
  log: (line: string) => void = () => undefined,
  threads = 1,
): Promise<DataSource> {
  const whole = { ...parseRunConfig({ augment: 'none' }, 'test'), ...config };
  const source = await openData(whole, { cropSize: 14, threads, cacheFolder: '/nonexistent', log });
  onTestFinished(() => source.close());
  return source;
}

/** The first pixel of every picture of a batch. */
async function colourOf(
  source: DataSource,
  split: 'train' | 'test',
  indices: number[],
): Promise<{ colours: number[][]; labels: number[] }> {
  const { pixels, labels, shape } = await source.load({ split, epoch: 0, indices: Uint32Array.from(indices) });
  const size = shape.height * shape.width * 3;
  return { labels: [...labels], colours: indices.map((_, i) => [...pixels.subarray(i * size, i * size + 3)]) };
}

async function expectClasses(source: DataSource, split: 'train' | 'test'): Promise<void> {
  const indices = Array.from({ length: source.counts[split] }, (_, i) => i);
  const { labels, colours: found } = await colourOf(source, split, indices);
  for (const [i, label] of labels.entries()) {
    const wanted = colours[source.classes[label] as keyof typeof colours];
    // Classes are a hundred apart in some channel, the shades of one class thirty at most.
    for (const [channel, value] of wanted.entries()) expect(Math.abs(found[i]![channel]! - value)).toBeLessThan(40);
  }
}

describe('an image folder', () => {
  test('with train and val gives classes by name, all pictures, and their mean', async () => {
    const root = pictureFolder();
    await classFolder(root, { train: 4, val: 2 }, colours);
    const source = await opened({ data: root });
    expect(source).toMatchObject({
      classes: names,
      counts: { train: 12, test: 6 },
      shape: { height: 14, width: 14, channels: 3 },
    });
    await expectClasses(source, 'train');
    await expectClasses(source, 'test');
    const shades = [0, 1, 2, 3];
    const meanOf = (channel: number): number =>
      Object.values(colours)
        .flatMap((colour) => shades.map((i) => colour[channel]! + i))
        .reduce((sum, value) => sum + value, 0) / 12;
    for (const channel of [0, 1, 2]) expect(source.mean[channel]).toBeCloseTo(meanOf(channel), 9);
  });

  test('without a split is divided by name: a further picture moves no other', async () => {
    const root = pictureFolder();
    await classFolder(root, { '.': 30 }, colours);
    const before = await opened({ data: `folder:${root}`, valFraction: 0.3 });
    expect(before.counts.train + before.counts.test).toBe(90);
    expect(before.counts.test).toBeGreaterThan(12);
    expect(before.counts.test).toBeLessThan(45);
    await put(join(root, 'blue', 'another.png'), await plain([10, 20, 200]).png().toBuffer());
    const after = await opened({ data: root, valFraction: 0.3 });
    expect(after.counts.train - before.counts.train + (after.counts.test - before.counts.test)).toBe(1);
    await expectClasses(after, 'train');
  });

  test('is limited evenly over its classes, and loads the same with three threads', async () => {
    const root = pictureFolder();
    await classFolder(root, { train: 6, val: 1 }, colours);
    const limited = await opened({ data: root, limitTrain: 6 });
    expect((await colourOf(limited, 'train', [0, 1, 2, 3, 4, 5])).labels).toEqual([0, 0, 1, 1, 2, 2]);
    const request = { split: 'train', epoch: 3, indices: Uint32Array.of(5, 0, 3) } as const;
    const augmented = { data: root, augment: 'crop-flip' } as const;
    const [one, three] = [await opened(augmented), await opened(augmented, undefined, 3)];
    expect(await three.load(request)).toEqual(await one.load(request));
  });

  test('names what is missing', async () => {
    const root = pictureFolder();
    await expect(opened({ data: join(root, 'nowhere') })).rejects.toThrow(/there is no data .*nowhere/);
    await expect(opened({ data: root })).rejects.toThrow(/holds no data that is known/);
    await classFolder(root, { train: 1 }, colours);
    await put(join(root, 'val/purple/1.jpg'), await plain([90, 0, 90]).jpeg().toBuffer());
    await expect(opened({ data: root })).rejects.toThrow(/val\/purple: no class of that name/);
  });
});

describe('a bad picture', () => {
  async function withBad(count: number, bad: number): Promise<string> {
    const root = pictureFolder();
    await classFolder(root, { train: count, val: 1 }, colours);
    for (let i = 0; i < bad; i++) await put(join(root, 'train/green', `${i}.png`), 'not a picture');
    return root;
  }

  test('is replaced by the next one, named once and counted', async () => {
    const lines: string[] = [];
    const source = await opened({ data: await withBad(40, 1), mean: [1, 2, 3] }, (line) => lines.push(line));
    // Sorted as text, 0.png is the first of its class: number 40.
    const first = await colourOf(source, 'train', [40, 41]);
    expect(first.labels).toEqual([1, 1]);
    expect(first.colours[0]).toEqual(first.colours[1]);
    expect(await colourOf(source, 'train', [40, 41])).toEqual(first);
    const named = lines.filter((line) => line.includes('0.png cannot be read as a picture: neither JPEG nor PNG nor WebP'));
    expect(named).toHaveLength(1);
  });

  test('in more than one of a hundred ends the run, and so does the first one where that was asked for', async () => {
    await expect(opened({ data: await withBad(40, 3) })).rejects.toThrow(
      /2 of the 120 pictures of the train split cannot be read/,
    );
    await expect(opened({ data: await withBad(40, 1), onBadImage: 'fail' })).rejects.toThrow(
      /0.png cannot be read .*--on-bad-image skip/,
    );
  });

  test('is named also where none can stand in for it', async () => {
    const root = pictureFolder();
    await classFolder(root, { train: 2 }, colours);
    await put(join(root, 'val/blue/only.png'), 'not a picture');
    const source = await opened({ data: root });
    await expect(source.load({ split: 'test', epoch: 0, indices: Uint32Array.of(0) })).rejects.toThrow(
      /only.png cannot be read .*none can stand in/,
    );
  });

  test('is not one that is gone: that ends the run with its name', async () => {
    const root = await withBad(4, 0);
    const source = await opened({ data: root });
    rmSync(join(root, 'val'), { recursive: true });
    await expect(source.load({ split: 'test', epoch: 0, indices: Uint32Array.of(0) })).rejects.toThrow(
      /val\/blue\/0.png could not be read/,
    );
  });
});

describe('a list', () => {
  test('takes paths with spaces, labels in words, and the val list beside it', async () => {
    const root = pictureFolder();
    await put(join(root, 'a picture of red.png'), await plain(colours['red ü']).png().toBuffer());
    await put(join(root, 'blue.png'), await plain(colours.blue).png().toBuffer());
    await put(join(root, 'train.txt'), 'a picture of red.png   red\n\nblue.png blue\n');
    await put(join(root, 'val.txt'), `${join(root, 'blue.png')} blue\n`);
    const source = await opened({ data: join(root, 'train.txt') });
    expect(source).toMatchObject({ classes: ['blue', 'red'], counts: { train: 2, test: 1 } });
    expect(await colourOf(source, 'train', [0, 1])).toEqual({
      labels: [1, 0],
      colours: [
        [220, 30, 20],
        [10, 20, 200],
      ],
    });
  });

  test('is found in a folder, also beside folders of pictures; a link to a file beside class folders is none', async () => {
    const root = pictureFolder();
    await put(join(root, 'images/blue.png'), await plain(colours.blue).png().toBuffer());
    await put(join(root, 'images/red.png'), await plain(colours['red ü']).png().toBuffer());
    await put(join(root, 'train.txt'), 'images/red.png 1\nimages/blue.png 0\n');
    await put(join(root, 'val.txt'), 'images/blue.png 0\n');
    expect(await opened({ data: root })).toMatchObject({ counts: { train: 2, test: 1 } });
    expect(await opened({ data: `list:${root}` })).toMatchObject({ counts: { train: 2, test: 1 } });
    const folder = pictureFolder();
    await classFolder(folder, { train: 1, val: 1 }, colours);
    symlinkSync(join(root, 'train.txt'), join(folder, 'train', 'notes'));
    expect(await opened({ data: folder })).toMatchObject({ classes: names });
  });

  test('of any text is read or refused by its line', async () => {
    const root = pictureFolder();
    await put(join(root, 'p.png'), await plain(colours.blue).png().toBuffer());
    await fc.assert(
      fc.asyncProperty(fc.array(fc.string({ unit: 'grapheme', maxLength: 30 }), { maxLength: 8 }), async (lines) => {
        await put(join(root, 'any.txt'), lines.join('\n'));
        const whole = { ...parseRunConfig({ data: join(root, 'any.txt'), valFraction: 0.5 }, 'test') };
        const result = await openData(whole, { cropSize: 14, threads: 1, cacheFolder: '', log: () => undefined }).catch(
          (error: unknown) => error,
        );
        if (result instanceof Error) expect(result).toBeInstanceOf(DataError);
        else await (result as DataSource).close();
      }),
      { numRuns: 30 },
    );
  });

  test('counts numbers, and names the line that is wrong', async () => {
    const root = pictureFolder();
    await put(join(root, 'p.png'), await plain(colours.blue).png().toBuffer());
    await put(join(root, 'list.txt'), Array.from({ length: 60 }, (_, i) => `p.png ${i % 3}`).join('\n'));
    await put(join(root, 'bad.txt'), 'p.png 0\nlonely\n');
    await put(join(root, 'gap.txt'), 'p.png 0\np.png 2\n');
    expect(
      (await opened({ data: `list:${join(root, 'list.txt')}`, valFraction: 0.5 }).catch((error: unknown) => error)) instanceof
        DataError,
    ).toBe(true); // One name, one split.
    await expect(opened({ data: join(root, 'bad.txt') })).rejects.toThrow(/bad.txt, line 2: not 'PATH LABEL', but 'lonely'/);
    await expect(opened({ data: join(root, 'gap.txt') })).rejects.toThrow(DataError);
  });
});

/** A tar archive as bytes. */
async function tarOf(members: readonly (readonly [string, Uint8Array | string])[]): Promise<Buffer> {
  const archive = pack();
  for (const [name, content] of members) archive.entry({ name }, Buffer.from(content));
  archive.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of archive) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

async function shard(members: readonly (readonly [string, Rgb, number])[]): Promise<Buffer> {
  const parts: [string, Uint8Array | string][] = [];
  for (const [key, colour, label] of members) {
    parts.push([`${key}.png`, await plain(colour).png().toBuffer()], [`${key}.cls`, `${label}\n`]);
  }
  return tarOf(parts);
}

describe('tar shards', () => {
  const longKey = `folder/${'k'.repeat(150)}`;

  test('are scanned and read out of order; val lies beside train', async () => {
    const root = pictureFolder();
    await put(
      join(root, 'train-000.tar'),
      await shard([
        ['a', colours.blue, 0],
        [longKey, colours.green, 1],
      ]),
    );
    await put(join(root, 'train-001.tar'), await shard([['ü', colours['red ü'], 2]]));
    await put(join(root, 'val-000.tar'), await shard([['v', colours.green, 1]]));
    await put(join(root, 'classes.txt'), 'blue\ngreen\nred ü\n');
    const source = await opened({ data: join(root, 'train-{000..001}.tar') });
    expect(source).toMatchObject({ classes: names, counts: { train: 3, test: 1 } });
    expect((await colourOf(source, 'train', [2, 0, 1])).colours).toEqual([
      [220, 30, 20],
      [10, 20, 200],
      [30, 180, 40],
    ]);
    await expectClasses(source, 'test');
  });

  test('are refused by name where they are damaged, whatever their bytes', async () => {
    const good = await shard([
      ['a', colours.blue, 0],
      ['b', colours.green, 1],
    ]);
    const root = pictureFolder();
    const path = join(root, 's.tar');
    await put(path, await tarOf([['a.png', 'x']]));
    await expect(opened({ data: path })).rejects.toThrow(/a.png has no a.cls beside it/);
    await expect(opened({ data: join(root, 'm-{0..1}.tar') })).rejects.toThrow(/m-0.tar could not be opened/);
    await fc.assert(
      fc.asyncProperty(fc.nat(good.length - 1), fc.uint8Array({ minLength: 1, maxLength: 40 }), async (at, bytes) => {
        const bad = Buffer.from(good);
        bad.set(bytes.subarray(0, bad.length - at), at);
        await put(path, bad);
        const whole = { ...parseRunConfig({ data: path, valFraction: 0.5, mean: [0, 0, 0] }, 'test') };
        const result = await openData(whole, { cropSize: 14, threads: 1, cacheFolder: '', log: () => undefined }).catch(
          (error: unknown) => error,
        );
        if (result instanceof Error) expect(result).toBeInstanceOf(DataError);
        else await (result as DataSource).close();
      }),
      { numRuns: 30 },
    );
  });

  test('are named by ranges', () => {
    expect(expandBraces('a-{08..11}.tar')).toEqual(['a-08.tar', 'a-09.tar', 'a-10.tar', 'a-11.tar']);
    expect(expandBraces('a.tar')).toEqual(['a.tar']);
    expect(() => expandBraces('a-{5..1}.tar')).toThrow(DataError);
    expect(() => expandBraces('a-{0..999999999}.tar')).toThrow(DataError);
  });
});

test('a prepared folder is opened by its indices, and a picture whose bytes have changed is bad', async () => {
  const root = pictureFolder();
  const pictures = await Promise.all([colours.blue, colours.green].map((colour) => plain(colour).png().toBuffer()));
  const archive = await tarOf(pictures.map((bytes, i) => [`${i}.png`, bytes] as const));
  const index = pictures.map((bytes, label) => [archive.indexOf(bytes), bytes.length, label, crc32(bytes)]);
  for (const split of ['train', 'val']) {
    await put(join(root, `${split}-000000.tar`), archive);
    await put(join(root, `${split}-000000.json`), JSON.stringify({ pictures: index }));
  }
  const facts = { format: 'crosstower-dataset', version: 1, classes: ['blue', 'green'], shortSide: 16 };
  const statistics = {
    mean: [1, 2, 3],
    deviation: [4, 5, 6],
    covariance: [
      [9, 0, 0],
      [0, 4, 0],
      [0, 0, 1],
    ],
  };
  const splits = { train: { count: 2, shards: ['train-000000.tar'] }, test: { count: 2, shards: ['val-000000.tar'] } };
  await put(join(root, 'dataset.json'), JSON.stringify({ ...facts, ...statistics, splits }));
  const source = await opened({ data: root });
  expect(source).toMatchObject({ classes: ['blue', 'green'], mean: [1, 2, 3], deviation: [4, 5, 6] });
  await expectClasses(source, 'train');

  const bytes = await readFile(join(root, 'val-000000.tar'));
  bytes[index[1]![0]! + 40]! ^= 1;
  await put(join(root, 'val-000000.tar'), bytes);
  const strict = await opened({ data: root, onBadImage: 'fail' });
  await expect(strict.load({ split: 'test', epoch: 0, indices: Uint32Array.of(1) })).rejects.toThrow(
    /at byte \d+ cannot be read .*\(CRC\)/,
  );
  await put(
    join(root, 'dataset.json'),
    JSON.stringify({ ...facts, ...statistics, splits: { ...splits, train: { count: 2, shards: ['../x.tar'] } } }),
  );
  await expect(opened({ data: root })).rejects.toThrow(/dataset.json could not be read/);
});

describe('CIFAR', () => {
  test('of any bytes is read or refused by name', async () => {
    const folder = pictureFolder();
    await put(join(folder, 'fine_label_names.txt'), 'apple\nbaby\n');
    await put(join(folder, 'train.bin'), Buffer.concat([record([9, 0], [1, 2, 3]), record([8, 1], [4, 5, 6])]));
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 100 }),
      fc.tuple(fc.nat(255), fc.nat(3)).map((labels) => record(labels, [1, 2, 3])),
    );
    await fc.assert(
      fc.asyncProperty(bytes, async (content) => {
        await put(join(folder, 'test.bin'), content);
        const result = await cifarFolder(folder).catch((error: unknown) => error);
        if (result instanceof Error) expect(result).toBeInstanceOf(DataError);
        else expect(content).toHaveLength(3074);
      }),
      { numRuns: 50 },
    );
  });

  /** A record: its label bytes, then planes of one value each. */
  const record = (labels: number[], [r, g, b]: Rgb): Buffer =>
    Buffer.concat([Buffer.from(labels), ...[r, g, b].map((value) => Buffer.alloc(1024, value))]);

  test('in both binary forms gives colours and fine labels', async () => {
    const ten = pictureFolder();
    for (const n of [1, 2, 3, 4, 5])
      await put(join(ten, `data_batch_${n}.bin`), Buffer.concat([record([0], [n, 2, 3]), record([1], [n, 5, 6])]));
    await put(join(ten, 'test_batch.bin'), record([1], [7, 8, 9]));
    await put(join(ten, 'batches.meta.txt'), 'cat\ndog\n');
    const source = await opened({ data: ten });
    expect(source).toMatchObject({ classes: ['cat', 'dog'], counts: { train: 10, test: 1 } });
    expect(await colourOf(source, 'train', [3, 8])).toEqual({
      labels: [1, 0],
      colours: [
        [2, 5, 6],
        [5, 2, 3],
      ],
    });

    const hundred = pictureFolder();
    await put(join(hundred, 'train.bin'), Buffer.concat([record([9, 0], [1, 2, 3]), record([8, 1], [4, 5, 6])]));
    await put(join(hundred, 'test.bin'), record([9, 0], [7, 8, 9]));
    await put(join(hundred, 'fine_label_names.txt'), 'apple\nbaby\n');
    expect(await colourOf(await opened({ data: `cifar:${hundred}` }), 'train', [0, 1])).toEqual({
      labels: [0, 1],
      colours: [
        [1, 2, 3],
        [4, 5, 6],
      ],
    });

    await put(join(hundred, 'test.bin'), record([9, 7], [7, 8, 9]));
    await expect(opened({ data: hundred })).rejects.toThrow(/test.bin: label 7 of record 0, but there are 2 classes/);
    await put(join(hundred, 'test.bin'), Buffer.alloc(100));
    await expect(opened({ data: hundred })).rejects.toThrow(/test.bin: 100 bytes are no number of records of 3074/);
  });
});
