// Work beside training that takes a bounded share of the machine: after each piece it rests, many times as long as the piece took.
// Invariant: nobody ever waits for a rest: from `hurry` on there is none.

import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';

/** Milliseconds of rest for one of work. */
const restPerWork = 31;

export class Pace {
  readonly #hurry = new AbortController();
  #workSinceMs = performance.now();

  /** Somebody waits for the work: no more rests. */
  hurry(): void {
    this.#hurry.abort();
  }

  /** The same items, with a rest after each: so many times as long as was worked since the last rest. */
  async *spread<T>(items: AsyncIterable<T>): AsyncGenerator<T> {
    for await (const item of items) {
      yield item;
      await this.#rest();
    }
  }

  /** The same items; to wait for one is no work. */
  async *awaited<T>(items: AsyncIterable<T>): AsyncGenerator<T> {
    let askedMs = performance.now();
    for await (const item of items) {
      this.#workSinceMs += performance.now() - askedMs;
      yield item;
      askedMs = performance.now();
    }
  }

  async #rest(): Promise<void> {
    const workedMs = performance.now() - this.#workSinceMs;
    await sleep(restPerWork * workedMs, undefined, { signal: this.#hurry.signal }).catch(() => undefined);
    this.#workSinceMs = performance.now();
  }
}
