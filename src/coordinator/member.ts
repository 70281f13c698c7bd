// One worker as the coordinator sees it: which towers it holds, where it runs, and what was last heard of it.

import { towers } from '../spec/layout.ts';
import type { TowerIndex } from '../spec/layout.ts';

export interface Member {
  readonly workerId: string;
  readonly towers: readonly TowerIndex[];
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

/** `tower 1 (host, pid 4711)`. */
export function describe(member: Member): string {
  return `${towerNames(member.towers)} (${member.place})`;
}

export function towerNames(which: readonly TowerIndex[]): string {
  return which.length === towers.length ? 'towers 0 and 1' : which.map((tower) => `tower ${String(tower)}`).join(' and ');
}
