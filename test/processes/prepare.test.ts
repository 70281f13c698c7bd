// `coordinator prepare` as it is run, and what training then reads of it.

import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished } from 'vitest';
import { openData } from '../../src/data/openData.ts';
import { parseRunConfig } from '../../src/spec/config.ts';
import { classColours, imageNetFiles, noPicture, noise } from '../data/imageNetFiles.ts';
import { classFolder, put } from '../data/pictureFiles.ts';
import type { Rgb } from '../data/pictureFiles.ts';
import { test, until } from './stage.ts';
import type { Command, Stage } from './stage.ts';

const small = ['--short-side=32', '--shard-size=8', '--jobs=2'];

function prepare(stage: Stage, from: string, out: string, flags: readonly string[] = small): Command {
  return stage.start(process.execPath, [stage.scripts.coordinator, 'prepare', `--from=${from}`, `--out=${out}`, ...flags]);
}

/** The names of a folder's files, each with the hash of its bytes. */
function hashes(folder: string): Record<string, string> {
  const names = readdirSync(folder).sort();
  return Object.fromEntries(
    names.map((name) => [
      name,
      createHash('sha256')
        .update(readFileSync(join(folder, name)))
        .digest('hex'),
    ]),
  );
}

function shards(folder: string): string[] {
  return readdirSync(folder).filter((name) => name.endsWith('.tar'));
}

async function pictures(stage: Stage, name: string, perClass: number, side: number): Promise<string> {
  const from = stage.path(name);
  for (const [c, label] of ['a', 'b'].entries()) {
    for (let i = 0; i < perClass; i++) await put(join(from, 'train', label, `${i}.jpg`), await noise(side, 2 * i + c));
    await put(join(from, 'val', label, '0.jpg'), await noise(side, c));
  }
  return from;
}

describe('coordinator prepare', () => {
  test('makes of ILSVRC2012 what training reads: classes, labels, colours, sizes', async ({ stage }) => {
    const from = stage.path('ILSVRC2012');
    await imageNetFiles(from, 6);
    const command = prepare(stage, from, stage.path('out'));
    expect(await command.exit(), command.output).toBe(0);
    expect(command.output).toMatch(/3 classes, 18 training and 10 test pictures/);
    expect(shards(stage.path('out'))).toEqual([
      'train-000000.tar',
      'train-000001.tar',
      'train-000002.tar',
      'val-000000.tar',
      'val-000001.tar',
    ]);
    const config = { ...parseRunConfig({ augment: 'none' }, 'test'), data: stage.path('out'), resizeSize: 32 };
    const source = await openData(config, { cropSize: 28, threads: 1, cacheFolder: '/nonexistent', log: () => undefined });
    onTestFinished(() => source.close());
    expect(source.classes).toEqual(classColours.map(([name]) => name));
    expect(source.counts).toEqual({ train: 18, test: 10 });
    for (const split of ['train', 'test'] as const) {
      const indices = Uint32Array.from({ length: source.counts[split] }, (_, i) => i);
      const { pixels, labels } = await source.load({ split, epoch: 0, indices });
      const perPicture = pixels.length / labels.length;
      const distances = [...labels].map((label, i) => {
        const colour = pixels.subarray(i * perPicture, i * perPicture + 3);
        const to = (wanted: Rgb): number => Math.max(...wanted.map((value, c) => Math.abs(colour[c]! - value)));
        const nearest = classColours.toSorted(([, one], [, other]) => to(one) - to(other))[0];
        expect(nearest).toBe(classColours[label]);
        return to(classColours[label]![1]);
      });
      // Two rounds of JPEG move a plain colour by two or three; what went through CMYK comes back paler: one a class, one in the test split.
      expect(distances.filter((distance) => distance > 4).length).toBe(split === 'train' ? 3 : 1);
      const perLabel = [0, 1, 2].map((label) => labels.filter((value) => value === label).length);
      expect(perLabel).toEqual(split === 'train' ? [6, 6, 6] : [3, 3, 4]);
      // Shuffled: class by class they would rise.
      expect([...labels]).not.toEqual([...labels].sort());
    }
    // A third of each colour; three pictures of eighteen went through CMYK, which moves a channel by less than a hundred.
    for (const [c, value] of [93, 97, 90].entries()) expect(Math.abs(source.mean[c]! - value)).toBeLessThan(17);
    const { shortSide } = JSON.parse(readFileSync(join(stage.path('out'), 'dataset.json'), 'utf8')) as { shortSide: number };
    expect(shortSide).toBe(32);
  });

  test('ended by SIGINT, by SIGKILL, and with a shard cut short, makes the same bytes in the end', async ({ stage }) => {
    // Large enough that a shard takes a while, small enough for a test.
    const from = await pictures(stage, 'pictures', 60, 500);
    const whole = prepare(stage, from, stage.path('whole'));
    expect(await whole.exit(60_000), whole.output).toBe(0);

    const out = stage.path('out');
    const hasShards = (count: number): boolean => {
      try {
        return shards(out).length >= count;
      } catch {
        return false;
      }
    };
    const interrupted = prepare(stage, from, out);
    await until('two shards', () => hasShards(2), 20_000);
    interrupted.signal('SIGINT');
    expect(await interrupted.exit(), interrupted.output).toBe(75);
    expect(interrupted.lastLine).toMatch(/stopped by SIGINT; .* the same command goes on/);
    expect(readdirSync(out)).not.toContain('dataset.json');
    expect(readdirSync(out).filter((name) => name.endsWith('.partial'))).toEqual([]);

    const before = shards(out).length;
    const killed = prepare(stage, from, out);
    await until('two more', () => hasShards(before + 2), 20_000);
    killed.signal('SIGKILL');
    expect(await killed.exit()).toBe('SIGKILL');
    expect(readdirSync(out)).not.toContain('dataset.json');
    truncateSync(join(out, 'train-000001.tar'), 5000);

    const last = prepare(stage, from, out);
    expect(await last.exit(60_000), last.output).toBe(0);
    expect(hashes(out)).toEqual(hashes(stage.path('whole')));
  });

  test('goes on only with the same options and source', async ({ stage }) => {
    const from = stage.path('pictures');
    const colours = { blue: [10, 20, 200], green: [30, 180, 40] } as const;
    await classFolder(from, { train: 4, val: 1 }, colours);
    const first = prepare(stage, from, stage.path('out'));
    expect(await first.exit(), first.output).toBe(0);
    const before = hashes(stage.path('out'));

    const other = prepare(stage, from, stage.path('out'), [...small, '--quality=80']);
    expect(await other.exit()).toBe(2);
    expect(other.lastLine).toMatch(/prepared with quality 90, not 80/);
    rmSync(join(from, 'train', 'blue', '3.png'));
    const fewer = prepare(stage, from, stage.path('out'));
    expect(await fewer.exit()).toBe(2);
    expect(fewer.lastLine).toMatch(/training pictures 8, not 7/);
    const foreign = prepare(stage, from, from);
    expect(await foreign.exit()).toBe(2);
    expect(foreign.lastLine).toMatch(/holds other files/);
    expect(hashes(stage.path('out'))).toEqual(before);
  });

  test('leaves a bad picture out and names it, and ends at too many or when told to', async ({ stage }) => {
    const from = stage.path('pictures');
    await classFolder(from, { train: 4, val: 2 }, { blue: [10, 20, 200], green: [30, 180, 40] });
    const bad = join(from, 'train', 'blue', '0.png');
    await put(bad, noPicture);
    const command = prepare(stage, from, stage.path('out'));
    expect(await command.exit(), command.output).toBe(0);
    expect(command.output).toContain(`${bad} cannot be read as a picture: neither JPEG nor PNG nor WebP; it is left out`);
    const dataset = JSON.parse(readFileSync(join(stage.path('out'), 'dataset.json'), 'utf8')) as {
      splits: { train: { count: number } };
    };
    expect(dataset.splits.train.count).toBe(7);

    const strict = prepare(stage, from, stage.path('strict'), [...small, '--on-bad-image=fail']);
    expect(await strict.exit()).toBe(5);
    expect(strict.lastLine).toMatch(/0\.png cannot be read as a picture/);
    await put(join(from, 'train', 'green', '1.png'), noPicture);
    const tooMany = prepare(stage, from, stage.path('many'));
    expect(await tooMany.exit()).toBe(5);
    expect(tooMany.lastLine).toMatch(/2 of the 8 pictures of the train split cannot be read/);
  });

  test('on a disk that takes no more says so, leaves no half shard, and goes on later', async ({ stage }) => {
    const from = await pictures(stage, 'pictures', 8, 300);
    const args = ['prepare', `--from=${from}`, `--out=${stage.path('out')}`, '--shard-size=100', '--short-side=256'];
    // No file may be larger than 64 KiB.
    const full = stage.start('bash', [
      '-c',
      'ulimit -f 64; exec "$@"',
      '-',
      process.execPath,
      stage.scripts.coordinator,
      ...args,
    ]);
    expect(await full.exit(), full.output).toBe(6);
    expect(full.lastLine).toMatch(/train-000000\.tar could not be written into .*out/);
    expect(readdirSync(stage.path('out'))).toEqual(['prepare.json']);
    const again = stage.start(process.execPath, [stage.scripts.coordinator, ...args]);
    expect(await again.exit(), again.output).toBe(0);
  });

  test('says what is wrong with a source', async ({ stage }) => {
    const from = stage.path('ILSVRC2012');
    await imageNetFiles(from, 2);
    const wrong: [string, RegExp][] = [[stage.path('nowhere'), /there is no .*nowhere/]];
    rmSync(join(from, 'ILSVRC2012_img_val.tar'));
    wrong.push([from, /ILSVRC2012_img_val\.tar is not there/]);
    const cut = stage.path('cut');
    await imageNetFiles(cut, 2);
    truncateSync(join(cut, 'ILSVRC2012_img_train.tar'), 9000);
    wrong.push([cut, /ILSVRC2012_img_train\.tar/]);
    const empty = stage.path('empty');
    await put(join(empty, 'readme.txt'), 'nothing');
    wrong.push([empty, /neither the tars of ILSVRC2012 nor a folder for each class/]);
    for (const [folder, message] of wrong) {
      const command = prepare(stage, folder, stage.path('out'));
      expect(await command.exit(), command.output).toBe(5);
      expect(command.lastLine).toMatch(message);
    }
  });
});
