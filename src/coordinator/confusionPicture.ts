// A confusion matrix as a table (CSV) and as a heat map (SVG): rows are true classes, columns predicted ones, a row's shares sum to one.
// The picture follows the reader's light or dark mode: shares are opacities of one colour over the background.

import sharp from 'sharp';
import type { Confusion } from './scores.ts';

/** Up to here classes are named and cells are drawn one by one; beyond, the cells are pixels. */
const namedClasses = 40;
/** Up to here each cell shows its percentage. */
const numberedClasses = 20;
/** Pixels of a named cell, and of the whole map of unnamed ones. */
const cell = 34;
const mapSide = 1000;
const margin = 24;
/** A blue that stands out on white and on black. */
const blue = [59, 130, 214] as const;

/** Colours are written out twice: not every program that shows SVG knows CSS variables. */
const style = `
  svg { background: #ffffff; font: 13px system-ui, sans-serif; }
  text { fill: #1b1f24; }
  .map rect { fill: #2563ab; }
  .frame { fill: none; stroke: #808890; }
  text.over { fill: #ffffff; }
  @media (prefers-color-scheme: dark) {
    svg { background: #14171b; }
    text { fill: #e6e8ea; }
    .map rect { fill: #63a9f5; }
    text.over { fill: #0c0e11; }
  }
  .share { font-size: 11px; text-anchor: middle; dominant-baseline: central; }
  .row { text-anchor: end; dominant-baseline: central; }
  .title { font-weight: 600; text-anchor: middle; }
`;

/** A line a true class; names with commas or quotes are quoted (RFC 4180). */
export function confusionCsv({ classes, counts }: Confusion): string {
  const rows = classes.map((name, row) => [name, ...counts.subarray(row * classes.length, (row + 1) * classes.length)]);
  return [['true \\ predicted', ...classes], ...rows].map((row) => row.map(csvField).join(',') + '\r\n').join('');
}

function csvField(value: string | number): string {
  const text = String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** The heat map; class names where there are at most 40. */
export async function confusionSvg(confusion: Confusion): Promise<string> {
  const { classes } = confusion;
  const isNamed = classes.length <= namedClasses;
  const side = isNamed ? cell * classes.length : mapSide;
  // System fonts are some 7.5 pixels wide at 13.
  const longest = isNamed ? Math.max(...classes.map((name) => name.length)) : 0;
  const left = margin + 24 + Math.min(260, Math.ceil(7.5 * longest));
  const top = left;
  const [width, height] = [left + side + margin, top + side + margin];
  const shares = rowShares(confusion);
  const map = isNamed ? namedMap(classes, shares) : await pixelMap(classes.length, shares);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${String(width)} ${String(height)}" width="${String(width)}" height="${String(height)}" role="img" aria-label="Confusion matrix">`,
    `<style>${style}</style>`,
    `<text class="title" x="${String(left + side / 2)}" y="18">predicted</text>`,
    `<text class="title" transform="translate(18 ${String(top + side / 2)}) rotate(-90)">true</text>`,
    `<g transform="translate(${String(left)} ${String(top)})">`,
    ...map,
    `<rect class="frame" width="${String(side)}" height="${String(side)}"/>`,
    '</g>',
    '</svg>',
    '',
  ].join('\n');
}

/** What share of a class's pictures was taken for each class [K,K]; zeros for a class without pictures. */
export function rowShares({ classes, counts }: Confusion): Float64Array {
  const shares = new Float64Array(counts.length);
  for (let row = 0; row < classes.length; row++) {
    const from = row * classes.length;
    const total = counts.subarray(from, from + classes.length).reduce((sum, count) => sum + count, 0);
    for (let i = from; i < from + classes.length; i++) shares[i] = (counts[i] ?? 0) / Math.max(1, total);
  }
  return shares;
}

function namedMap(classes: readonly string[], shares: Float64Array): string[] {
  const middle = (i: number): string => String(cell * (i + 0.5));
  const names = classes.flatMap((name, i) => [
    `<text class="row" x="-8" y="${middle(i)}">${escaped(name)}</text>`,
    `<text transform="translate(${middle(i)} -8) rotate(-90)" dominant-baseline="central">${escaped(name)}</text>`,
  ]);
  const cells = [...shares.entries()].flatMap(([i, share]) => {
    if (share === 0) return [];
    const [row, column] = [Math.floor(i / classes.length), i % classes.length];
    const place = `x="${String(cell * column)}" y="${String(cell * row)}" width="${String(cell)}" height="${String(cell)}"`;
    const title = `${classes[row] ?? ''} taken for ${classes[column] ?? ''}: ${(100 * share).toFixed(1)}%`;
    const rect = `<rect ${place} fill-opacity="${share.toFixed(3)}"><title>${escaped(title)}</title></rect>`;
    if (classes.length > numberedClasses || share < 0.005) return [rect];
    const text = `<text class="share${share > 0.5 ? ' over' : ''}" x="${middle(column)}" y="${middle(row)}">${(100 * share).toFixed(0)}</text>`;
    return [rect, text];
  });
  return [...names, '<g class="map">', ...cells, '</g>'];
}

/** A pixel a cell, as a PNG inside the SVG: a thousand classes have a million cells. */
async function pixelMap(count: number, shares: Float64Array): Promise<string[]> {
  const pixels = Buffer.alloc(4 * shares.length);
  for (const [i, share] of shares.entries()) pixels.set([...blue, Math.round(255 * share)], 4 * i);
  const png = await sharp(pixels, { raw: { width: count, height: count, channels: 4 } })
    .png()
    .toBuffer();
  return [
    `<image width="${String(mapSide)}" height="${String(mapSide)}" preserveAspectRatio="none" style="image-rendering: pixelated" href="data:image/png;base64,${png.toString('base64')}"/>`,
  ];
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
