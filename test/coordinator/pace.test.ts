// Work with rests: they follow the work, and end as soon as somebody waits. Times are real: what is bounded is what a run would feel.

import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Pace } from '../../src/coordinator/pace.ts';

function workFor(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

async function* numbers(count: number): AsyncGenerator<number> {
  for (let i = 0; i < count; i++) {
    await Promise.resolve();
    yield i;
  }
}

test('everything comes, in its order, with rests that are many times as long as the work', async () => {
  const pace = new Pace();
  const start = performance.now();
  const got: number[] = [];
  for await (const item of pace.spread(numbers(3))) {
    got.push(item);
    workFor(5);
  }
  expect(got).toEqual([0, 1, 2]);
  // Three times 5 ms of work with 155 ms of rest.
  expect(performance.now() - start).toBeGreaterThanOrEqual(3 * 5 * 31);
});

test('what had to be waited for has not been worked for', async () => {
  const pace = new Pace();
  async function* late(): AsyncGenerator<number> {
    await sleep(200);
    yield 0;
  }
  const start = performance.now();
  for await (const _ of pace.spread(pace.awaited(late())));
  // 200 ms of rest-free waiting, where the rest for as much work would be six seconds; the rest is for a busy machine.
  expect(performance.now() - start).toBeLessThan(2000);
});

test('a hurry ends a rest that has begun, and there is none after it', async () => {
  const pace = new Pace();
  const start = performance.now();
  setTimeout(() => {
    pace.hurry();
  }, 50);
  // Without the hurry: 20 rests of 620 ms.
  for await (const _ of pace.spread(numbers(20))) workFor(20);
  // 20 times 20 ms of work and the 50 ms: the rest is for a busy machine.
  expect(performance.now() - start).toBeLessThan(1500);
});
