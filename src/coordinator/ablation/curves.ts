// The courses of all variants as two panels: training error over the steps, smoothed, and test error at each evaluation. In percent.

import { svgChart } from './chart.ts';
import type { Point } from './chart.ts';
import { mean, targetWindow } from './results.ts';
import type { Result, RunCourse } from './results.ts';

/** Points of a training curve: more would not be seen. */
const pointsPerCurve = 120;

/** Draws curves.svg: a line a variant, the mean of its seeds, and a band from the lowest to the highest of them. */
export function drawCurves(variants: readonly string[], results: readonly Result[]): string {
  const seriesOf = (curve: (courses: readonly RunCourse[]) => Point[]) =>
    variants.map((name) => ({
      name,
      points: curve(results.filter(({ variant }) => variant === name).map(({ course }) => course)),
    }));
  return svgChart([
    {
      title: 'Training error',
      xLabel: 'step',
      yLabel: `% of the last ${String(targetWindow)} batches`,
      series: seriesOf(trainingCurve),
    },
    { title: 'Test error', xLabel: 'step', yLabel: '% of the test pictures', series: seriesOf(testCurve), marked: true },
  ]);
}

/** The mean of the last steps, at about `pointsPerCurve` of those that every seed has come to. */
function trainingCurve(courses: readonly RunCourse[]): Point[] {
  if (courses.length === 0) return [];
  const last = Math.min(...courses.map(({ trainErrors }) => trainErrors.length));
  const first = Math.min(targetWindow, last);
  const stride = Math.max(1, Math.floor((last - first) / pointsPerCurve));
  const steps = Array.from({ length: Math.floor((last - first) / stride) + 1 }, (_, i) => first + i * stride);
  return steps.map((step) =>
    pointOf(
      step,
      courses.map(({ trainErrors }) => mean(trainErrors.slice(Math.max(0, step - targetWindow), step))),
    ),
  );
}

/** At the evaluations that every seed has. */
function testCurve(courses: readonly RunCourse[]): Point[] {
  const [first] = courses;
  return (first?.evaluations ?? []).flatMap(({ step }) => {
    const errors = courses.flatMap(({ evaluations }) => evaluations.find((evaluation) => evaluation.step === step)?.error ?? []);
    return errors.length === courses.length ? [pointOf(step, errors)] : [];
  });
}

function pointOf(x: number, errors: readonly number[]): Point {
  const percents = errors.map((error) => 100 * error);
  return { x, y: mean(percents), low: Math.min(...percents), high: Math.max(...percents) };
}
