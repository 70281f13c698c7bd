// Work beside training that takes a bounded share of the machine: after each piece it rests, many times as long as the piece took.
// Invariant: nobody ever waits for a rest: from `hurry` on there is none.

import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';

/** A rest for each millisecond of work: one part in sixteen is work. */
const restPerWork = 15;

export class Pace {
  readonly #hurry = new AbortController();
  #workSinceMs = performance.now();

  /** Somebody waits for the work: no more rests. */
  hurry(): void {
    this.#hurry.abort();
  }

  /** The same items, with a rest after each one that was worked on: so many times as long as it is since the last rest, of whichever items. */
  async *spread<T>(items: AsyncIterable<T>): AsyncGenerator<T> {
    for await (const item of items) {
      yield item;
      await this.#rest();
    }
  }

  async #rest(): Promise<void> {
    const workedMs = performance.now() - this.#workSinceMs;
    await sleep(restPerWork * workedMs, undefined, { signal: this.#hurry.signal }).catch(() => undefined);
    this.#workSinceMs = performance.now();
  }
}
