// The drawing: well-formed XML whatever the names, axes that hold the data, marks where the data says.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { svgChart, ticksFor } from '../../../src/coordinator/ablation/chart.ts';
import type { Panel, Point } from '../../../src/coordinator/ablation/chart.ts';
import { drawCurves } from '../../../src/coordinator/ablation/curves.ts';
import type { Result } from '../../../src/coordinator/ablation/results.ts';

/** Throws where tags do not close in order, or where text or attributes hold a bare & or <; gives the names of the elements. */
function elementsOf(xml: string): string[] {
  const names: string[] = [];
  const open: string[] = [];
  const text = '(?:[^<>&]|&(?:amp|lt|gt|quot);)*';
  const tag = new RegExp(
    `^(${text})<(/?)([a-z]+)((?: [a-z0-9-]+="${text.replace('[^<>&]', '[^<>&"]')}"|  ?xmlns="[^"]*"| viewBox="[^"]*")*)(/?)>`,
  );
  let rest = xml;
  for (let match = tag.exec(rest); match !== null; match = tag.exec(rest)) {
    const [whole, , closes, name = '', , isEmpty] = match;
    if (closes === '/') expect(open.pop()).toBe(name);
    else {
      names.push(name);
      if (isEmpty !== '/') open.push(name);
    }
    rest = rest.slice(whole.length);
  }
  expect(rest.trim()).toBe('');
  expect(open).toEqual([]);
  return names;
}

function panel(points: readonly Point[], name = 'a'): Panel {
  return { title: 't', xLabel: 'x', yLabel: 'y', series: [{ name, points }] };
}

const point = (x: number, y: number): Point => ({ x, y, low: y, high: y });
const finite = fc.double({ min: -1e6, max: 1e6, noNaN: true });

describe('ticks', () => {
  test('are round and enclose the data', () => {
    expect(ticksFor(0, 1)).toEqual([0, 0.2, 0.4, 0.6, 0.8, 1]);
    expect(ticksFor(11.2, 13.9)).toEqual([11, 12, 13, 14]);
    expect(ticksFor(0, 469)).toEqual([0, 100, 200, 300, 400, 500]);
    expect(ticksFor(7, 7).length).toBeGreaterThan(1);
    for (const [low, high] of [
      [0, 0],
      [0, 5e-324],
      [-1e6, -1e6 + 1e-9],
    ] as const) {
      const ticks = ticksFor(low, high);
      expect(ticks[0]).toBeLessThanOrEqual(low);
      expect(ticks.at(-1)).toBeGreaterThan(ticks[0] ?? NaN);
      expect(ticks.at(-1)).toBeGreaterThanOrEqual(high);
    }
  });

  test('cover any data, rise, and are few', () => {
    fc.assert(
      fc.property(finite, fc.double({ min: 1e-3, max: 1e6, noNaN: true }), (low, span) => {
        const ticks = ticksFor(low, low + span);
        // Ticks are rounded to 12 digits of numbers up to 2e6.
        expect(ticks[0]).toBeLessThanOrEqual(low + 1e-5);
        expect(ticks.at(-1)).toBeGreaterThanOrEqual(low + span - 1e-5);
        expect(ticks.every((tick, i) => i === 0 || tick > (ticks[i - 1] ?? NaN))).toBe(true);
        // Five steps, and one more at each end.
        expect(ticks.length).toBeLessThanOrEqual(8);
      }),
    );
  });
});

describe('a chart', () => {
  test('is well-formed XML with any names', () => {
    fc.assert(
      fc.property(fc.string(), fc.array(fc.tuple(finite, finite), { maxLength: 5 }), (name, values) => {
        const printable = name.replace(/[^\x20-\x7e]/g, '');
        const elements = elementsOf(
          svgChart([
            panel(
              values.map(([x, y]) => point(Math.abs(x), y)),
              printable,
            ),
          ]),
        );
        expect(elements[0]).toBe('svg');
        expect(elements.filter((element) => element === 'polyline')).toHaveLength(values.length > 0 ? 1 : 0);
      }),
      { numRuns: 50 },
    );
  });

  test('escapes what XML would read', () => {
    const svg = svgChart([panel([point(0, 1)], '<b> & "c"')]);
    expect(svg).toContain('>&lt;b&gt; &amp; &quot;c&quot;</text>');
    expect(svg).not.toContain('<b>');
  });

  test('draws the line from corner to corner of its ticks, and the band around it', () => {
    const svg = svgChart([
      panel([
        { x: 0, y: 1, low: 0, high: 1 },
        { x: 100, y: 0, low: 0, high: 1 },
      ]),
    ]);
    // Panel: x from 64 to 444, y from 272 (low) up to 36.
    expect(svg).toContain('<polyline points="64,36 444,272"');
    expect(svg).toContain('<polygon points="64,36 444,36 444,272 64,272"');
  });

  test('keeps every point within its panel', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(1000), finite), { minLength: 1, maxLength: 8 }), (values) => {
        const svg = svgChart([panel(values.map(([x, y]) => point(x, y)))]);
        const line = /polyline points="([^"]*)"/.exec(svg)?.[1] ?? '';
        for (const [x, y] of line.split(' ').map((pair) => pair.split(',').map(Number))) {
          // Pixels are rounded to a tenth.
          expect(x).toBeGreaterThanOrEqual(63.9);
          expect(x).toBeLessThanOrEqual(444.1);
          expect(y).toBeGreaterThanOrEqual(35.9);
          expect(y).toBeLessThanOrEqual(272.1);
        }
      }),
    );
  });

  test('leaves out what is not finite', () => {
    const svg = svgChart([panel([point(0, 1), point(1, NaN), point(2, 3)])]);
    expect(svg).not.toContain('NaN');
    expect(/polyline points="([^"]*)"/.exec(svg)?.[1]?.split(' ')).toHaveLength(2);
  });

  test('gives each of 18 series a stroke of its own', () => {
    const series = Array.from({ length: 18 }, (_, i) => ({ name: String(i), points: [point(0, i), point(1, i)] }));
    const svg = svgChart([{ title: 't', xLabel: 'x', yLabel: 'y', series }]);
    const strokes = [...svg.matchAll(/<polyline [^>]*(stroke="#[^>]*)\/>/g)].map(([, stroke]) => stroke);
    expect(new Set(strokes).size).toBe(18);
  });

  test('has colours of its own for dark pages', () => {
    expect(svgChart([panel([])])).toContain('@media(prefers-color-scheme:dark)');
  });
});

describe('the curves of an ablation', () => {
  const result = (variant: string, seed: number, error: number, steps: number): Result => ({
    variant,
    seed,
    stepsPerEpoch: 100,
    course: {
      trainErrors: Array<number>(steps).fill(error),
      imagesPerSecond: Array<number>(steps).fill(1),
      evaluations: [100, steps].map((step) => ({ step, error, loss: 1 })),
    },
  });

  test('show the mean of the seeds in percent, in a panel each for training and test', () => {
    const svg = drawCurves(['a', 'b', 'not run'], [result('a', 1, 0.1, 200), result('a', 2, 0.3, 200), result('b', 1, 0.2, 200)]);
    elementsOf(svg);
    expect(svg).toContain('Training error');
    expect(svg).toContain('Test error');
    // Both lines lie at 20% in both panels, where the data runs from 10% to 30%: half-way between 36 and 272.
    const heights = [...svg.matchAll(/polyline points="([^"]*)"/g)].flatMap(([, line = '']) =>
      line.split(' ').map((pair) => pair.split(',')[1]),
    );
    expect(new Set(heights)).toEqual(new Set(['154']));
  });

  test('go as far as all seeds of a variant have come', () => {
    const svg = drawCurves(['a'], [result('a', 1, 0.1, 200), result('a', 2, 0.3, 300)]);
    // Of the evaluations at 100, 200 and 300 both seeds have that at 100.
    expect(svg.match(/<circle/g)).toHaveLength(1);
  });
});
