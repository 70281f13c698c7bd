// Two ways to be early: work that is begun ahead of need, and what comes in one by one taken in chunks.

import { setTimeout as sleep } from 'node:timers/promises';

/** The results in order, up to `count` of them begun before they are asked for. */
export async function* beginAhead<T>(begin: Iterable<() => Promise<T>>, count: number): AsyncGenerator<T> {
  const begun: Promise<T>[] = [];
  for (const start of begin) {
    const result = start();
    // Awaited below; a failure until then is not unhandled.
    result.catch(() => undefined);
    begun.push(result);
    if (begun.length > count) yield begun.shift() as Promise<T>;
  }
  for (const result of begun) yield result;
}

/** Milliseconds that a chunk waits for one value more. */
const togetherMs = 5;

/** What comes close together in chunks of up to `limit`; a value that comes alone waits for no other. */
export async function* chunksAsTheyCome<T>(source: AsyncIterable<T>, limit: number): AsyncGenerator<T[]> {
  const iterator = source[Symbol.asyncIterator]();
  const ask = (): Promise<IteratorResult<T>> => {
    const next = iterator.next();
    next.catch(() => undefined);
    return next;
  };
  let next = ask();
  for (let first = await next; first.done !== true; first = await next) {
    const chunk = [first.value];
    next = ask();
    while (chunk.length < limit) {
      const more = await Promise.race([next, sleep(togetherMs)]);
      if (more === undefined || more.done === true) break;
      chunk.push(more.value);
      next = ask();
    }
    yield chunk;
  }
}
