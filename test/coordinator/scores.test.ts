// Scores from probabilities: what counts as right, what is averaged, what is taken for what.

import { expect, test } from 'vitest';
import { ScoreSums, averageViews, topClasses } from '../../src/coordinator/scores.ts';

const classes = ['a', 'b', 'c', 'd', 'e', 'f'];

test('views are averaged picture by picture; one view is itself', () => {
  const [one, two] = [Float32Array.of(0.25, 0.75), Float32Array.of(0.5, 0.5)];
  expect(averageViews([one])).toBe(one);
  expect([...averageViews([one, two])]).toEqual([0.375, 0.625]);
});

test('the best classes come first, equal ones by index, and no more than there are', () => {
  const row = Float32Array.of(0.125, 0.25, 0.125, 0.5);
  expect(topClasses(row, 3).map(({ index }) => index)).toEqual([3, 1, 0]);
  expect(topClasses(row, 3)[1]).toEqual({ index: 1, probability: 0.25 });
  expect(topClasses(row, 9)).toHaveLength(4);
});

test('a picture is right where fewer than one, or five, classes are above its own', () => {
  const sums = new ScoreSums(classes);
  // Own class first; second of two equal ones; sixth of six.
  const p = Float32Array.of(0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 0.3, 0.3, 0.1, 0.1, 0.1, 0.1, 0.3, 0.2, 0.2, 0.15, 0.14, 0.01);
  sums.add(p, Int32Array.of(0, 1, 5));
  const { top1, top5, loss, count } = sums.scores;
  expect([top1, top5, count]).toEqual([2 / 3, 2 / 3, 3]);
  // fp32 probabilities.
  expect(loss).toBeCloseTo(-(Math.log(0.5) + Math.log(0.3) + Math.log(0.01)) / 3, 6);
  expect([...sums.confusion.counts.subarray(0, 6)]).toEqual([1, 0, 0, 0, 0, 0]);
  expect([...sums.confusion.counts.subarray(6, 12)]).toEqual([1, 0, 0, 0, 0, 0]);
  expect([...sums.confusion.counts.subarray(30)]).toEqual([1, 0, 0, 0, 0, 0]);
});

test('batches add up, and a probability that was rounded to zero costs a finite loss', () => {
  const sums = new ScoreSums(['a', 'b']);
  sums.add(Float32Array.of(1, 0), Int32Array.of(0));
  sums.add(Float32Array.of(1, 0), Int32Array.of(1));
  expect(sums.scores).toMatchObject({ top1: 0.5, top5: 1, count: 2 });
  expect(sums.scores.loss).toBeCloseTo((149 * Math.LN2) / 2, 9);
  expect(() => {
    sums.add(Float32Array.of(1, 0), Int32Array.of(2));
  }).toThrow(/label 2 of 2 classes/);
});
