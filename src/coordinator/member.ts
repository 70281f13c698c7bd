// One worker as the coordinator sees it: which seats it holds, where it runs, and what was last heard of it.

import type { Seat } from './seats.ts';

export interface Member {
  readonly workerId: string;
  /** One, or both of a replica. */
  readonly seats: readonly [Seat, ...Seat[]];
  /** Host and process. */
  readonly place: string;
  /** Batches that it takes. */
  credit: number;
  isReady: boolean;
  lastHeard: string;
  /** Has answered since it was last asked. */
  answers: boolean;
  /** Was asked for the last time, and has not answered since. */
  isMute: boolean;
}
