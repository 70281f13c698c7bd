// `coordinator eval` and `coordinator predict` on what a run has left: the same numbers as the run's own, the right classes, and nothing that
// one bad picture could stop.

import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { idxBytes } from '../data/idxFiles.ts';
import { Stage, test } from './stage.ts';
import type { Command, Flags } from './stage.ts';

const colours = { blue: [30, 40, 200], green: [20, 180, 40], red: [200, 30, 20] } as const;
const soonMs = 30_000;

/** A picture of one colour with stripes that differ from picture to picture. */
async function writePicture(path: string, colour: readonly number[], seed: number): Promise<void> {
  const [width, height] = [48, 40];
  const pixels = Buffer.alloc(3 * width * height);
  for (let i = 0; i < pixels.length; i++) {
    const column = Math.floor(i / 3) % width;
    pixels[i] = Math.min(255, (colour[i % 3] ?? 0) + ((column * (seed + 3)) % 17) + seed);
  }
  mkdirSync(dirname(path), { recursive: true });
  await sharp(pixels, { raw: { width, height, channels: 3 } })
    .png()
    .toFile(path);
}

/** Three classes by colour, and a run on them. */
const trained = new Stage();
const [data, run] = [trained.path('data'), trained.path('run')];
/** A test picture, or a training one. */
const picture = (name: string, number = 0): string => join(data, 'val', name, `${number}.png`);

beforeAll(async () => {
  for (const [name, colour] of Object.entries(colours)) {
    for (let i = 0; i < 16; i++) await writePicture(join(data, 'train', name, `${i}.png`), colour, i);
    for (let i = 0; i < 5; i++) await writePicture(picture(name, i), colour, 20 + i);
  }
  // Test pictures in three batches, the last one smaller.
  const flags: Flags = { local: 'cpu', 'one-process': true, data, epochs: 8, steps: undefined, 'eval-every': 2, 'eval-batch': 6 };
  const training = trained.coordinator(flags);
  expect(await training.exit(60_000), training.output).toBe(0);
}, 90_000);
afterAll(() => {
  trained.clear();
});

function infer(stage: Stage, args: readonly string[], listens = false): Command {
  return stage.start(process.execPath, [stage.scripts.coordinator, ...args], { listens });
}

async function done(command: Command, code = 0): Promise<string> {
  expect(await command.exit(soonMs), command.output).toBe(code);
  return command.printed;
}

interface Answer {
  readonly path: string;
  readonly top: readonly { readonly class: string; readonly index: number; readonly probability: number }[];
}

function answersIn(printed: string): Answer[] {
  const lines = printed.split('\n').filter((line) => line !== '');
  return lines.map((line) => JSON.parse(line) as Answer);
}

/** Path and best class of each answer. */
function best(printed: string): [string, string | undefined][] {
  return answersIn(printed).map(({ path, top }) => [path, top[0]?.class]);
}

describe('eval', () => {
  test('gives the numbers of the last evaluation of the run, with its files', async ({ stage }) => {
    const out = stage.path('scores');
    const report = JSON.parse(await done(infer(stage, ['eval', '--checkpoint', run, '--json', '--out', out]))) as Record<
      string,
      unknown
    >;
    const own = trained.metrics().findLast(({ kind }) => kind === 'eval')!;
    expect(report).toMatchObject({ count: 15, split: 'test', views: 1, step: own['step'], top1: own['top1'], top5: own['top5'] });
    // The run takes the loss from logits, this from fp32 probabilities.
    expect(Math.abs((report['loss'] as number) - (own['loss'] as number))).toBeLessThan(1e-5);
    expect(JSON.parse(readFileSync(join(out, 'metrics.json'), 'utf8'))).toEqual(report);
    const rows = readFileSync(join(out, 'confusion.csv'), 'utf8').trim().split('\r\n');
    expect(rows[0]).toBe('true \\ predicted,blue,green,red');
    const onDiagonal = rows.slice(1).map((row, i) => Number(row.split(',')[i + 1]));
    expect(onDiagonal.reduce((sum, count) => sum + count, 0)).toBe(15 * (own['top1'] as number));
    expect(readFileSync(join(out, 'confusion.svg'), 'utf8')).toContain('green');
  });

  test('scores ten views, the training split, and the best checkpoint', async ({ stage }) => {
    const args = ['eval', '--checkpoint', run, '--views', '10', '--split', 'train', '--best'];
    const printed = await done(infer(stage, args));
    expect(printed).toMatch(/^pictures {4}48, train split of .*, 10 views$/m);
    expect(printed).toMatch(/^top-1 {7}\d+\.\d%$/m);
  });

  test('gives the same numbers with two workers that were started elsewhere', async ({ stage }) => {
    const withTwo = infer(stage, ['eval', '--checkpoint', run, '--json', '--bind', 'tcp://127.0.0.1:0']);
    const [, coordinator] = await withTwo.said(/waiting for workers at (\S+)/);
    const workers = ([0, 1] as const).map((tower) => stage.worker({ coordinator: coordinator!, tower }));
    const report = JSON.parse(await done(withTwo)) as Record<string, unknown>;
    expect(await Promise.all(workers.map((worker) => worker.exit()))).toEqual([0, 0]);
    const own = trained.metrics().findLast(({ kind }) => kind === 'eval')!;
    expect(report).toMatchObject({ top1: own['top1'], top5: own['top5'] });
  });

  test('refuses data of other classes, and names the first that differs', async ({ stage }) => {
    for (const name of ['blue', 'grey']) await writePicture(join(stage.path('split/train'), name, '1.png'), [90, 90, 90], 1);
    await writePicture(join(stage.path('split/val/blue'), '1.png'), [90, 90, 90], 1);
    const split = infer(stage, ['eval', '--checkpoint', run, '--data', stage.path('split')]);
    await done(split, 5);
    expect(split.lastLine).toMatch(/has 3 classes and .* has 2; class 1 is 'green' there and 'grey' here/);
  });
});

describe('predict', () => {
  test('names the colours of pictures, and goes on past those that cannot be read', async ({ stage }) => {
    const [text, none] = [stage.path('text.png'), stage.path('none.png')];
    writeFileSync(text, 'no picture');
    const pictures = [picture('red'), text, picture('blue'), none, picture('green')];
    const command = infer(stage, ['predict', '--checkpoint', run, '--top', '2', ...pictures]);
    const printed = await done(command, 5);
    const blocks = printed.trimEnd().split('\n');
    expect(blocks.filter((line) => !line.startsWith(' '))).toEqual(['red', 'blue', 'green'].map((name) => picture(name)));
    expect([1, 4, 7].map((line) => blocks[line]?.replace(/^ *[\d.]+% {2}/, ''))).toEqual(['red', 'blue', 'green']);
    expect(blocks).toHaveLength(9);
    expect(command.output).toContain(`${text} cannot be read as a picture: neither JPEG nor PNG nor WebP`);
    expect(command.output).toMatch(/none\.png could not be read: ENOENT/);
  });

  test('takes folders, in the order of their names, and ten views; a JSON object a line', async ({ stage }) => {
    const command = infer(stage, ['predict', '--checkpoint', run, '--json', '--views', '10', join(data, 'val')]);
    const printed = await done(command);
    const expected = Object.keys(colours).flatMap((name) => [0, 1, 2, 3, 4].map((i) => [picture(name, i), name]));
    expect(best(printed)).toEqual(expected);
    const [first] = answersIn(printed);
    // Three fp32 numbers.
    expect(first?.top.reduce((sum, { probability }) => sum + probability, 0)).toBeCloseTo(1, 6);
  });

  test('answers while lines come on standard input, and stops in good order', async ({ stage }) => {
    const command = infer(stage, ['predict', '--checkpoint', run, '--json', '--top', '1', '-'], true);
    command.write(`${picture('green')}\n${picture('red')}\n`);
    await command.said(/"red"/);
    expect(best(command.printed).map(([, name]) => name)).toEqual(['green', 'red']);
    command.write(`${picture('blue', 3)}\n`);
    await command.said(/"blue"/);
    command.signal('SIGINT');
    await done(command, 75);
    expect(command.lastLine).toBe('coordinator: stopped before all pictures were classified');
  });

  test('ends when its input does', async ({ stage }) => {
    const command = infer(stage, ['predict', '--checkpoint', run, '--json', '-'], true);
    command.write(picture('green'));
    command.closeInput();
    expect(best(await done(command))).toEqual([[picture('green'), 'green']]);
  });

  test('names the logs of a worker that was killed', async ({ stage }) => {
    const command = infer(stage, ['predict', '--checkpoint', run, '-'], true);
    command.write(`${picture('green')}\n`);
    await command.said(/green\n/);
    await stage.signalRealWorker('both', 'SIGKILL');
    await done(command, 3);
    const [, logs] = /([^\s(]*crosstower-logs-[^/\s)]+)/.exec(command.lastLine)!;
    expect(existsSync(logs!)).toBe(true);
    rmSync(logs!, { recursive: true });
  });

  test('brings a picture to the size and the grey of the data that a network was trained on', async ({ stage }) => {
    const folder = stage.path('idx');
    mkdirSync(folder);
    for (const [prefix, count] of [
      ['train', 64],
      ['t10k', 8],
    ] as const) {
      // Dark pictures are class 0, bright ones class 1.
      const pixels = Uint8Array.from({ length: count * 784 }, (_, i) => (Math.floor(i / 784) % 2 === 0 ? 30 : 200) + (i % 29));
      writeFileSync(join(folder, `${prefix}-images-idx3-ubyte`), idxBytes([count, 28, 28], pixels));
      writeFileSync(
        join(folder, `${prefix}-labels-idx1-ubyte`),
        idxBytes(
          [count],
          Uint8Array.from({ length: count }, (_, i) => i % 2),
        ),
      );
    }
    const training = stage.coordinator({ local: 'cpu', 'one-process': true, data: folder, epochs: 8 });
    expect(await training.exit(soonMs), training.output).toBe(0);
    await writePicture(stage.path('dark.png'), [60, 20, 10], 0);
    await writePicture(stage.path('bright.png'), [180, 220, 240], 0);
    const command = infer(stage, [
      'predict',
      '--checkpoint',
      stage.path('run'),
      '--json',
      stage.path('dark.png'),
      stage.path('bright.png'),
    ]);
    expect(best(await done(command)).map(([, name]) => name)).toEqual(['0', '1']);
  });

  test('wants a checkpoint, not weights alone', async ({ stage }) => {
    const command = infer(stage, ['predict', '--checkpoint', join(run, 'model.safetensors'), picture('red')]);
    await done(command, 2);
    expect(command.lastLine).toMatch(/model\.safetensors holds weights alone/);
  });
});
