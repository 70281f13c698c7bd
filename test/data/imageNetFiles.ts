// A small archive laid out as ILSVRC2012 is: tars of classes within a tar, validation pictures with numbers, a development kit with a
// compressed MATLAB 5 file. As in the real set, one .JPEG is a PNG and one is in CMYK.

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { deflateSync, gzipSync } from 'node:zlib';
import sharp from 'sharp';
import { pack } from 'tar-stream';
import { plain, put } from './pictureFiles.ts';
import type { Rgb } from './pictureFiles.ts';

/** In the order of their ids, which is not that of the WordNet ids. */
export const synsets = [
  { id: 1, wnid: 'n02119789', words: 'kit fox, Vulpes macrotis', colour: [210, 40, 30] },
  { id: 2, wnid: 'n01440764', words: 'tench, Tinca tinca', colour: [30, 200, 40] },
  { id: 3, wnid: 'n01443537', words: 'goldfish, Carassius auratus', colour: [40, 50, 200] },
  { id: 4, wnid: 'n00001740', words: 'entity (no class)', colour: undefined },
] as const;

/** Each class by the order of its WordNet id, as a prepared dataset names it, and its colour. */
export const classColours: readonly (readonly [string, Rgb])[] = [
  ['n01440764 tench, Tinca tinca', [30, 200, 40]],
  ['n01443537 goldfish, Carassius auratus', [40, 50, 200]],
  ['n02119789 kit fox, Vulpes macrotis', [210, 40, 30]],
];

/** Writes the three files; `perClass` training pictures of each class, and ten to validate on. */
export async function imageNetFiles(folder: string, perClass: number, side = 60): Promise<void> {
  const picture = (colour: Rgb, i: number): Promise<Buffer> => {
    const made = plain(colour, side + (i % 5), side - (i % 3));
    if (i === 1) return made.png().toBuffer();
    return i === 2 ? made.toColourspace('cmyk').jpeg().toBuffer() : made.jpeg().toBuffer();
  };
  const leaves = synsets.filter((synset) => synset.colour !== undefined);
  const inner = leaves.map(async ({ wnid, colour }) => {
    const pictures = Array.from({ length: perClass }, async (_, i) => [`${wnid}_${i}.JPEG`, await picture(colour, i)] as const);
    return [`${wnid}.tar`, await tarOf(await Promise.all(pictures))] as const;
  });
  await put(join(folder, 'ILSVRC2012_img_train.tar'), await tarOf(await Promise.all(inner)));
  const truth = Array.from({ length: 10 }, (_, i) => leaves[i % 3]!);
  const val = truth.map(
    async ({ colour }, i) => [`ILSVRC2012_val_${String(i + 1).padStart(8, '0')}.JPEG`, await picture(colour, i)] as const,
  );
  await put(join(folder, 'ILSVRC2012_img_val.tar'), await tarOf(await Promise.all(val)));
  const kit = 'ILSVRC2012_devkit_t12';
  const devkit = await tarOf([
    [`${kit}/data/meta.mat`, matFile(synsets)],
    [`${kit}/data/ILSVRC2012_validation_ground_truth.txt`, Buffer.from(truth.map(({ id }) => `${id}\n`).join(''))],
  ]);
  await writeFile(join(folder, `${kit}.tar.gz`), gzipSync(devkit));
}

export async function tarOf(members: readonly (readonly [string, Buffer])[]): Promise<Buffer> {
  const tar = pack();
  for (const [name, bytes] of members) tar.entry({ name }, bytes);
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** A MATLAB 5 file with the synsets as the real one has them, written from the format's description. */
export function matFile(
  list: readonly { readonly id: number; readonly wnid: string; readonly words: string }[],
  { isCompressed = true } = {},
): Buffer {
  const header = Buffer.alloc(128, ' ');
  header.write('MATLAB 5.0 MAT-file');
  header.writeUInt16LE(0x0100, 124);
  header.write('IM', 126, 'latin1');
  const fields = ['ILSVRC2012_ID', 'WNID', 'words', 'gloss'];
  const names = Buffer.alloc(32 * fields.length);
  for (const [i, field] of fields.entries()) names.write(field, 32 * i, 'latin1');
  const values = list.flatMap(({ id, wnid, words }) => [
    // A double that was stored as a byte, as MATLAB does with small ones.
    matrix(6, [1, 1], '', [element(2, Buffer.from([id]))]),
    matrix(4, [1, wnid.length], '', [element(4, Buffer.from(wnid, 'utf16le'))]),
    matrix(4, [1, words.length], '', [element(16, Buffer.from(words))]),
    matrix(4, [0, 0], '', [element(16, Buffer.alloc(0))]),
  ]);
  const struct = matrix(2, [list.length, 1], 'synsets', [element(5, int32s([32])), element(1, names), ...values]);
  return Buffer.concat([header, isCompressed ? element(15, deflateSync(struct), false) : struct]);
}

function matrix(arrayClass: number, dimensions: readonly number[], name: string, rest: readonly Buffer[]): Buffer {
  const flags = element(6, int32s([arrayClass, 0]));
  return element(14, Buffer.concat([flags, element(5, int32s(dimensions)), element(1, Buffer.from(name)), ...rest]));
}

/** With the short form for up to four bytes. */
function element(type: number, data: Buffer, isPadded = true): Buffer {
  if (data.length > 0 && data.length <= 4) return Buffer.concat([int32s([type | (data.length << 16)]), data], 8);
  const size = isPadded ? Math.ceil(data.length / 8) * 8 : data.length;
  return Buffer.concat([int32s([type, data.length]), data], 8 + size);
}

function int32s(values: readonly number[]): Buffer {
  return Buffer.from(Int32Array.from(values).buffer);
}

/** One picture that is none. */
export const noPicture = Buffer.from('this is no picture');

/** Noise, so that decoding takes its time. */
export function noise(side: number, seed: number): Promise<Buffer> {
  const pixels = Buffer.alloc(side * side * 3);
  for (let i = 0; i < pixels.length; i++) pixels[i] = ((i + 1) * (seed + 7919) * 2654435761) >>> 24;
  return sharp(pixels, { raw: { width: side, height: side, channels: 3 } })
    .jpeg()
    .toBuffer();
}
