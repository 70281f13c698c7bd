// Makes a folder of IDX files out of Fashion-MNIST with some of its classes only, and so many training pictures of each, for experiments
// in fine-tuning: `node scripts/fashion-subset.mjs OUT --classes 4,6 --per-class 50`. Classes are numbered anew from 0, in the order given.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { cacheFolder, fashionMnistFolder, fashionMnistSources } from '../dist/src/data/fashionMnist.js';
import { readIdxFolder } from '../dist/src/data/idxFolder.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { classes: { type: 'string' }, 'per-class': { type: 'string', default: 'Infinity' } },
});
const [out] = positionals;
const classes = values.classes?.split(',').map(Number) ?? [];
const perClass = Number(values['per-class']);
if (out === undefined || classes.length < 2 || !classes.every(Number.isInteger) || !(perClass > 0)) {
  console.error('usage: node scripts/fashion-subset.mjs OUT --classes A,B,... [--per-class N]');
  process.exit(2);
}

const folder = await fashionMnistFolder(cacheFolder(process.env), { sources: fashionMnistSources(), log: console.error });
const { splits } = await readIdxFolder(folder);
mkdirSync(out, { recursive: true });
write('train', splits.train, perClass);
write('t10k', splits.test, Infinity);

/** The first pictures of each class, in the order of the data. */
function write(prefix, { pixels, starts, labels, shape: { height, width } }, most) {
  const taken = classes.map(() => 0);
  const chosen = [...labels.keys()].filter((i) => {
    const label = classes.indexOf(labels[i]);
    return label >= 0 && taken[label]++ < most;
  });
  const area = height * width;
  const images = Buffer.alloc(16 + chosen.length * area);
  const names = Buffer.alloc(8 + chosen.length);
  [0x803, chosen.length, height, width].forEach((value, i) => images.writeUInt32BE(value, 4 * i));
  [0x801, chosen.length].forEach((value, i) => names.writeUInt32BE(value, 4 * i));
  for (const [i, picture] of chosen.entries()) {
    images.set(pixels.subarray(starts[picture], starts[picture] + area), 16 + i * area);
    names[8 + i] = classes.indexOf(labels[picture]);
  }
  writeFileSync(join(out, `${prefix}-images-idx3-ubyte`), images);
  writeFileSync(join(out, `${prefix}-labels-idx1-ubyte`), names);
}
