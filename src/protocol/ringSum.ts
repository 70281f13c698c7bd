// The sum of gradients over the R replicas of a tower, in a ring: each hands chunks to the next and takes them from the one before, R - 1
// hops to add them up (reduce-scatter), R - 1 to pass the sums around (all-gather). A replica sends 2 (R - 1) / R of its bytes, whatever R is.
//
//     replica 0  --->  replica 1  --->  replica 2  --->  replica 0        each arrow is a link of its own (docs/adr/0017-replicas.md)
//
// Invariant: chunk c is added up in the order c, c + 1, ... of the replicas and by one addition each, so all of them end with the same bytes.
// Sums go on side by side; what is handed over is written to again only when its sum comes back, which it cannot before it has been read.

import type { OneWayLink } from '../spec/exchange.ts';
import { PeerLostError } from '../spec/errors.ts';
import type { GradientSum, SumTag } from '../spec/gradientSum.ts';

export interface RingPlace {
  readonly replica: number;
  readonly replicas: number;
  /** The link to the next replica, and the one to the replica before; both lie between replicas of the same tower. */
  readonly next: OneWayLink;
  readonly previous: OneWayLink;
}

export class RingSum implements GradientSum {
  readonly #place: RingPlace;

  constructor(place: RingPlace) {
    this.#place = place;
  }

  get bytesSent(): number {
    return this.#place.next.bytesSent;
  }

  async sum(tag: SumTag, values: Float32Array): Promise<void> {
    try {
      await this.#sum(tag, values);
    } catch (error) {
      // A link that breaks breaks the ring: who waits for us is told at once.
      this.close(error as Error);
      throw error;
    }
  }

  close(reason?: Error): void {
    this.#place.next.close(reason);
    this.#place.previous.close(reason);
  }

  async #sum({ step, bucket }: SumTag, values: Float32Array): Promise<void> {
    const { replica, replicas, next, previous } = this.#place;
    for (let hop = 0; hop < 2 * (replicas - 1); hop++) {
      const tag = { step, site: bucket, phase: 'sum', microBatch: hop } as const;
      const chunk = chunkOf(values, replica - hop, replicas);
      const target = chunkOf(values, replica - hop - 1, replicas);
      const arriving = previous.take(tag, target.byteLength);
      next.give(tag, { shape: [chunk.length], values: chunk });
      const received = await arriving;
      const { values: theirs } = received;
      if (theirs.length !== target.length) {
        const problem = `the replica before sent ${String(theirs.length)} values of ${bucket} instead of ${String(target.length)}`;
        throw new PeerLostError(`step ${String(step)}: ${problem}`);
      }
      if (hop < replicas - 1) addTo(target, theirs);
      else target.set(theirs);
      previous.release(received);
    }
  }
}

/** The `index`th of `count` nearly equal parts, counted around the ring. */
function chunkOf(values: Float32Array, index: number, count: number): Float32Array {
  const at = ((index % count) + count) % count;
  const edge = (part: number): number => Math.floor((part * values.length) / count);
  return values.subarray(edge(at), edge(at + 1));
}

/** fp32 addition: the sum of two floats, rounded once more to fp32, is the same as in fp32 arithmetic. */
function addTo(target: Float32Array, values: Float32Array): void {
  for (let i = 0; i < target.length; i++) target[i] = (target[i] as number) + (values[i] as number);
}
