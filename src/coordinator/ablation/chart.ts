// Line charts as SVG, panels side by side under one legend: a line for the mean and a band from lowest to highest.
// Invariant: a pure function of its data; the same picture serves light and dark pages. Colours: Okabe and Ito, "Color Universal Design"
// (2008), which the colour-blind can tell apart, without the yellow and the black that vanish on one of the two grounds.

export interface Point {
  readonly x: number;
  readonly y: number;
  readonly low: number;
  readonly high: number;
}

export interface Panel {
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  /** In the order of the legend; a series without points keeps its colour. */
  readonly series: readonly { readonly name: string; readonly points: readonly Point[] }[];
  /** Few points, each of them marked. */
  readonly marked?: boolean;
}

const colours = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9'];
/** A second round through the colours is dashed, and so on. */
const dashes = ['', '6 3', '2 3'];

const style = `text{fill:#24292f;font:12px sans-serif}.ground{fill:#fff}.grid{stroke:#d0d7de}.title{font-weight:bold}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.ground{fill:#0d1117}.grid{stroke:#30363d}}`;

const panelWidth = 460;
const height = 320;
const margin = { left: 64, right: 16, top: 36, bottom: 48 };
const legendRow = 20;
const legendColumns = 4;

/** Draws the panels; what is not finite is left out. */
export function svgChart(panels: readonly Panel[]): string {
  const names = panels[0]?.series.map(({ name }) => name) ?? [];
  const width = panels.length * panelWidth;
  const fullHeight = height + legendRow * Math.ceil(names.length / legendColumns) + 8;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${String(width)} ${String(fullHeight)}" role="img">`,
    `<title>${escaped(panels.map(({ title }) => title).join(', '))}</title>`,
    `<style>${style}</style>`,
    '<rect class="ground" width="100%" height="100%"/>',
    ...panels.map((panel, i) => `<g transform="translate(${String(i * panelWidth)} 0)">\n${drawPanel(panel)}\n</g>`),
    ...names.map((name, i) => {
      const x = margin.left + ((i % legendColumns) * (width - margin.left)) / legendColumns;
      const y = height + 8 + legendRow * Math.floor(i / legendColumns);
      return `<line x1="${short(x)}" x2="${short(x + 24)}" y1="${short(y - 4)}" y2="${short(y - 4)}" ${strokeOf(i)}/>${label(name, { x: x + 30, y })}`;
    }),
    '</svg>',
    '',
  ].join('\n');
}

/** About `count` round numbers from at or below `low` to at or above `high`, evenly spaced. */
export function ticksFor(low: number, high: number, count = 5): number[] {
  // Numbers that differ beyond the ninth digit are drawn as one.
  const size = Math.max(Math.abs(low), Math.abs(high), 1e-9);
  const span = high - low > 1e-9 * size ? high - low : size;
  const power = 10 ** Math.floor(Math.log10(span / count));
  const step = power * ([1, 2, 5].find((factor) => factor * power * count >= span) ?? 10);
  const first = Math.floor(low / step);
  const last = Math.max(Math.ceil(high / step), first + 1);
  // Rounded: 3 times 0.1 is not 0.3.
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

function drawPanel({ title, xLabel, yLabel, series, marked = false }: Panel): string {
  const drawn = series.map(({ points }) => points.filter((point) => Object.values(point).every(Number.isFinite)));
  const all = drawn.flat();
  const xTicks = all.length === 0 ? [0, 1] : ticksFor(0, Math.max(...all.map(({ x }) => x)));
  const yTicks =
    all.length === 0 ? [0, 1] : ticksFor(Math.min(...all.map(({ low }) => low)), Math.max(...all.map(({ high }) => high)));
  const right = panelWidth - margin.right;
  const bottom = height - margin.bottom;
  const atX = scale(xTicks, margin.left, right);
  const atY = scale(yTicks, bottom, margin.top);
  const middleY = (margin.top + bottom) / 2;
  const path = (points: readonly (readonly [number, number])[]): string =>
    points.map(([x, y]) => `${short(atX(x))},${short(atY(y))}`).join(' ');
  return [
    label(title, { x: margin.left, y: 22, attributes: 'class="title"' }),
    ...yTicks.map(
      (y) =>
        `<line class="grid" x1="${String(margin.left)}" x2="${String(right)}" y1="${short(atY(y))}" y2="${short(atY(y))}"/>` +
        label(String(y), { x: margin.left - 8, y: atY(y) + 4, attributes: 'text-anchor="end"' }),
    ),
    ...xTicks.map((x) => label(String(x), { x: atX(x), y: bottom + 18, attributes: 'text-anchor="middle"' })),
    label(xLabel, { x: (margin.left + right) / 2, y: bottom + 36, attributes: 'text-anchor="middle"' }),
    label(yLabel, { x: 16, y: middleY, attributes: `text-anchor="middle" transform="rotate(-90 16 ${short(middleY)})"` }),
    // All bands lie under all lines.
    ...drawn.map((points, i) => {
      const edge = [
        ...points.map(({ x, high }) => [x, high] as const),
        ...points.map(({ x, low }) => [x, low] as const).reverse(),
      ];
      return points.length < 2 ? '' : `<polygon points="${path(edge)}" fill="${colourOf(i)}" fill-opacity="0.18"/>`;
    }),
    ...drawn.map((points, i) => {
      if (points.length === 0) return '';
      const marks = marked || points.length === 1 ? points.map((point) => mark(point, i, { atX, atY })).join('') : '';
      return `<polyline points="${path(points.map(({ x, y }) => [x, y]))}" fill="none" ${strokeOf(i)}/>${marks}`;
    }),
  ]
    .filter((line) => line !== '')
    .join('\n');
}

type Scale = (value: number) => number;

/** From the first and the last tick to pixels. */
function scale(ticks: readonly number[], from: number, to: number): Scale {
  const first = ticks[0] ?? 0;
  const span = (ticks.at(-1) ?? 1) - first;
  return (value) => from + ((to - from) * (value - first)) / span;
}

function mark({ x, y }: Point, i: number, { atX, atY }: { atX: Scale; atY: Scale }): string {
  return `<circle cx="${short(atX(x))}" cy="${short(atY(y))}" r="3" fill="${colourOf(i)}"/>`;
}

function label(text: string, { x, y, attributes = '' }: { x: number; y: number; attributes?: string }): string {
  return `<text x="${short(x)}" y="${short(y)}"${attributes === '' ? '' : ` ${attributes}`}>${escaped(text)}</text>`;
}

function strokeOf(i: number): string {
  const dash = dashes[Math.floor(i / colours.length) % dashes.length] ?? '';
  return `stroke="${colourOf(i)}" stroke-width="2"${dash === '' ? '' : ` stroke-dasharray="${dash}"`}`;
}

function colourOf(i: number): string {
  return colours[i % colours.length] ?? '';
}

/** Pixels to a tenth. */
function short(value: number): string {
  return String(Number(value.toFixed(1)));
}

function escaped(text: string): string {
  const names: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
  return text.replace(/[&<>"]/g, (character) => names[character] ?? character);
}
