// `npm run bench:data`: how many JPEG pictures a second one core reads, decodes, crops and flips, beside Python's usual way (PIL, as torchvision
// does it). By processor time, so that the work of a second core is not missed.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { z } from 'zod';
import { exitCodes } from '../src/spec/errors.ts';
import { parseRunConfig } from '../src/spec/config.ts';
import type { DataSource } from '../src/data/batch.ts';
import { cacheFolder } from '../src/data/fashionMnist.ts';
import { openData } from '../src/data/openData.ts';
import { machineLine, parseBenchFlags, sayer, thisMachine, warnIfBusy } from './benchOptions.ts';
import { runCommand } from './command.ts';
import { LineProcess } from './lineProcess.ts';
import { peerPython, peerScript } from './peerEnvironment.ts';
import { distribution, pairedRatio } from './statistics.ts';
import { textTable, threeDigits } from '../src/coordinator/textTable.ts';
import { atLeast } from './throughputOptions.ts';

const help = `npm run bench:data -- [options]

Makes a folder of JPEG pictures of 256 pixels a side, and reads them as a run does: decoded, cropped to 224 and flipped in a loader thread.
In turns with it, the same pictures through PIL in Python, installed into the cache folder when it is first asked for.

Options
  --pictures N   pictures in the folder (default: 512)
  --rounds N     rounds (default: 5)
  --json         one JSON object on standard output
  --help         this text`;

const side = 256;
const cropSize = 224;
const batch = 128;
const answerSchema = z.object({ seconds: z.number().positive() });

/** Pictures with structure at three scales, like photographs, and as large as those in a file. */
async function makePictures(folder: string, count: number): Promise<void> {
  const noise = (size: number, sigma: number): Promise<Buffer> =>
    sharp({
      create: { width: size, height: size, channels: 3, background: 'black', noise: { type: 'gaussian', mean: 128, sigma } },
    })
      .resize(side, side, { kernel: 'cubic' })
      .png()
      .toBuffer();
  for (let i = 0; i < count; i++) {
    const path = join(folder, i % 8 === 0 ? 'val' : 'train', `class-${i % 2}`);
    mkdirSync(path, { recursive: true });
    const [coarse, middle, fine] = await Promise.all([noise(8, 70), noise(32, 40), noise(128, 20)]);
    await sharp(coarse)
      .composite([
        { input: middle, blend: 'overlay' },
        { input: fine, blend: 'soft-light' },
      ])
      .jpeg({ quality: 90 })
      .toFile(join(path, `${String(i).padStart(5, '0')}.jpg`));
  }
}

/** Processor seconds of this process for `count` pictures, its loader thread included. */
async function readPictures(data: DataSource, count: number, epoch: number): Promise<number> {
  const before = process.cpuUsage();
  for (let start = 0; start < count; start += batch) {
    const indices = Uint32Array.from({ length: Math.min(batch, count - start) }, (_, i) => (start + i) % data.counts.train);
    data.release(await data.load({ split: 'train', epoch, indices }));
  }
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

await runCommand('data', async (keeper) => {
  const flags = parseBenchFlags(process.argv.slice(2), ['pictures', 'rounds']);
  if (flags.isHelp) {
    console.log(help);
    return exitCodes.done;
  }
  const say = sayer('data');
  const pictures = atLeast(16, 'pictures', flags.pictures ?? '512');
  const python = await peerPython(keeper, 'pil', { cacheFolder: cacheFolder(process.env), say });
  const folder = keeper.temporaryFolder();
  say(`making ${pictures} pictures`);
  await makePictures(folder, pictures);
  warnIfBusy(say);
  const peer = new LineProcess(keeper, {
    name: 'PIL',
    command: python,
    args: [peerScript('pil'), '--folder', join(folder, 'train'), '--crop', String(cropSize)],
    environment: process.env,
  });
  const about = z.object({ version: z.string() }).parse(await peer.ask());
  const data = await openData(parseRunConfig({ data: folder, augment: 'crop-flip', pcaColour: 0 }, 'the benchmark'), {
    cropSize,
    threads: 1,
    cacheFolder: cacheFolder(process.env),
    log: () => undefined,
  });
  const speeds = { crosstower: [] as number[], pil: [] as number[] };
  try {
    await readPictures(data, pictures, 0);
    await peer.ask(`run ${pictures}`);
    for (let i = 0; i < atLeast(1, 'rounds', flags.rounds ?? '5'); i++) {
      speeds.crosstower.push(pictures / (await readPictures(data, pictures, 1 + i)));
      speeds.pil.push(pictures / answerSchema.parse(await peer.ask(`run ${pictures}`)).seconds);
      say(`round ${i + 1}: ${speeds.crosstower.at(-1)?.toFixed(0) ?? ''} pictures/s, PIL ${speeds.pil.at(-1)?.toFixed(0) ?? ''}`);
    }
  } finally {
    await data.close();
  }
  const machine = thisMachine();
  const ratio = pairedRatio(speeds.crosstower, speeds.pil);
  const results = { crosstower: distribution(speeds.crosstower), pil: distribution(speeds.pil) };
  if (flags.isJson) console.log(JSON.stringify({ machine, pictures, peer: `Pillow ${about.version}`, ratio, ...results }));
  else {
    const row = (name: string, { median, p10, p90 }: typeof results.pil, note: string): string[] => [
      name,
      threeDigits(median),
      `${threeDigits(p10)}..${threeDigits(p90)}`,
      note,
    ];
    console.log(`${pictures} JPEG pictures of ${side} pixels, cropped to ${cropSize}, ${machineLine(machine)}\n`);
    console.log(
      textTable([
        ['', 'pictures a processor second', 'p10..p90', 'crosstower is'],
        row('crosstower', results.crosstower, ''),
        row(`Pillow ${about.version}`, results.pil, `${ratio.toFixed(2)} times it`),
      ]),
    );
  }
  return exitCodes.done;
});
