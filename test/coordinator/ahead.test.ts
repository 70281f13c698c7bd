// Being early: work begun ahead of need, and chunks of what comes close together.

import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { beginAhead, chunksAsTheyCome } from '../../src/coordinator/ahead.ts';

async function all<T>(values: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const value of values) found.push(value);
  return found;
}

test('results come in order, and so many are begun before they are asked for', async () => {
  let begun = 0;
  const work = [30, 0, 10, 0].map((ms, i) => async () => {
    begun++;
    await sleep(ms);
    return i;
  });
  const results = beginAhead(work, 2);
  expect(await results.next()).toEqual({ value: 0, done: false });
  expect(begun).toBe(3);
  expect(await all(results)).toEqual([1, 2, 3]);
});

test('a failure is thrown where its result would have come', async () => {
  const results = beginAhead([() => Promise.resolve(1), () => Promise.reject(new Error('no'))], 5);
  expect(await results.next()).toEqual({ value: 1, done: false });
  await expect(results.next()).rejects.toThrow('no');
});

test('what is there comes in chunks up to the limit; what comes alone does not wait', async () => {
  async function* source(): AsyncGenerator<number> {
    yield* [1, 2, 3];
    await sleep(200); // Long after the 5 ms that a chunk waits.
    yield 4;
  }
  expect(await all(chunksAsTheyCome(source(), 2))).toEqual([[1, 2], [3], [4]]);
});
