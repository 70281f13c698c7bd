// Draws a run's training loss and top-1 as an SVG: `node scripts/plot-loss.mjs runs/<run>/metrics.jsonl > loss.svg`.
// Each point is a step; the line is the mean of a tenth of the run around it, at most 25 steps.

import { readFileSync } from 'node:fs';

const [file] = process.argv.slice(2);
if (file === undefined) {
  console.error('usage: node scripts/plot-loss.mjs METRICS.jsonl > loss.svg');
  process.exit(2);
}

const records = readFileSync(file, 'utf8')
  .trimEnd()
  .split('\n')
  .map((line) => JSON.parse(line));
const steps = records.filter((record) => record.kind === 'step');
if (steps.length === 0) {
  console.error(`${file} holds no steps`);
  process.exit(5);
}

const width = 720;
const height = 220;
const margin = 48;
const lastStep = steps.at(-1).step;
const atX = (step) => margin + ((width - 2 * margin) * step) / lastStep;

/** A panel of one series between 0 and `top`, its upper edge at `offset`. */
function panel({ title, value, top, offset }) {
  const atY = (y) => offset + height - margin - ((height - 2 * margin) * Math.min(y, top)) / top;
  const span = Math.max(1, Math.min(25, Math.floor(steps.length / 10)));
  const smooth = steps.map((_, i) => {
    const near = steps.slice(Math.max(0, i - span + 1), i + 1);
    return near.reduce((sum, record) => sum + value(record), 0) / near.length;
  });
  const ticks = [0, top / 2, top].map(
    (y) =>
      `<text x="${margin - 6}" y="${atY(y) + 4}" text-anchor="end">${+y.toFixed(2)}</text>` +
      `<line x1="${margin}" x2="${width - margin}" y1="${atY(y)}" y2="${atY(y)}" stroke="#ddd"/>`,
  );
  const points = steps.map(
    (record) => `<circle cx="${atX(record.step).toFixed(1)}" cy="${atY(value(record)).toFixed(1)}" r="1.5"/>`,
  );
  const line = smooth.map((y, i) => `${atX(steps[i].step).toFixed(1)},${atY(y).toFixed(1)}`).join(' ');
  return `<text x="${margin}" y="${offset + margin - 12}" font-weight="bold">${title}</text>${ticks.join('')}
<g fill="#9ab">${points.join('')}</g>
<polyline points="${line}" fill="none" stroke="#c30" stroke-width="2"/>
<text x="${width - margin}" y="${offset + height - margin + 18}" text-anchor="end">step ${lastStep}</text>`;
}

const highest = Math.ceil(Math.max(...steps.map((record) => record.loss).filter(Number.isFinite)));
console.log(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${2 * height}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
${panel({ title: 'training loss', value: (record) => record.loss, top: highest, offset: 0 })}
${panel({ title: 'top-1 of the batch', value: (record) => record.top1, top: 1, offset: height })}
</svg>`);
