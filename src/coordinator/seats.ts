// The places of a run that workers take: both towers of every replica.
// Invariant: seats are numbered 2 * replica + tower; what is collected from the workers stands in that order.

import { towers } from '../spec/layout.ts';
import type { TowerIndex } from '../spec/layout.ts';

export interface Seat {
  readonly replica: number;
  readonly tower: TowerIndex;
}

/** The seats of a run, in their order. */
export function seatsOf(replicas: number): Seat[] {
  return Array.from({ length: replicas }, (_, replica) => towers.map((tower) => ({ replica, tower }))).flat();
}

/** Counted from 0. */
export function seatNumber({ replica, tower }: Seat): number {
  return towers.length * replica + tower;
}

/** Which seats a worker would have. */
export interface WantedSeats {
  readonly tower: TowerIndex | 'both' | 'auto';
  readonly replica: number | 'auto';
}

/** The first seats that fit and are free, or, where all that fit are taken, the first of those; none where the run has no such replica. */
export function chooseSeats({ tower, replica }: WantedSeats, free: readonly Seat[], replicas: number): readonly Seat[] {
  const choices: readonly (readonly TowerIndex[])[] = tower === 'auto' ? [[0], [1]] : tower === 'both' ? [towers] : [[tower]];
  const fitting = Array.from({ length: replicas }, (_, i) => i)
    .filter((candidate) => replica === 'auto' || replica === candidate)
    .flatMap((candidate) => choices.map((held) => held.map((each) => ({ replica: candidate, tower: each }))));
  const numbers = new Set(free.map(seatNumber));
  return fitting.find((seats) => seats.every((seat) => numbers.has(seatNumber(seat)))) ?? fitting[0] ?? [];
}

/** For messages: `tower 0`, `towers 0 and 1 of replica 2`; the replica is left out where there is but one. */
export function seatNames(seats: readonly Seat[], replicas: number): string {
  const byReplica = new Map<number, TowerIndex[]>();
  for (const { replica, tower } of seats) byReplica.set(replica, [...(byReplica.get(replica) ?? []), tower]);
  return [...byReplica]
    .map(([replica, held]) => {
      const which =
        held.length === towers.length ? 'towers 0 and 1' : held.map((tower) => `tower ${String(tower)}`).join(' and ');
      return replicas === 1 ? which : `${which} of replica ${String(replica)}`;
    })
    .join(', ');
}
