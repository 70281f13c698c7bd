// Who sits where: the first free seat that fits, a taken one where none is free, none where the run has no such replica.

import { expect, test } from 'vitest';
import { chooseSeats, seatNames, seatNumber, seatsOf } from '../../src/coordinator/seats.ts';
import type { Seat, WantedSeats } from '../../src/coordinator/seats.ts';

const all = seatsOf(2);

function without(...taken: readonly Seat[]): Seat[] {
  const numbers = taken.map(seatNumber);
  return all.filter((seat) => !numbers.includes(seatNumber(seat)));
}

test('seats are numbered in the order of replicas, then towers', () => {
  expect(all.map(seatNumber)).toEqual([0, 1, 2, 3]);
});

test.each<{ wanted: WantedSeats; free: readonly Seat[]; numbers: number[] }>([
  { wanted: { tower: 'auto', replica: 'auto' }, free: all, numbers: [0] },
  { wanted: { tower: 'auto', replica: 'auto' }, free: without({ replica: 0, tower: 0 }), numbers: [1] },
  { wanted: { tower: 'auto', replica: 1 }, free: all, numbers: [2] },
  { wanted: { tower: 1, replica: 'auto' }, free: without({ replica: 0, tower: 1 }), numbers: [3] },
  { wanted: { tower: 1, replica: 0 }, free: without({ replica: 0, tower: 1 }), numbers: [1] },
  { wanted: { tower: 'both', replica: 'auto' }, free: without({ replica: 0, tower: 1 }), numbers: [2, 3] },
  { wanted: { tower: 'both', replica: 'auto' }, free: [], numbers: [0, 1] },
  { wanted: { tower: 0, replica: 2 }, free: all, numbers: [] },
])('a worker that wants $wanted where $free.length seats are free gets seats $numbers', ({ wanted, free, numbers }) => {
  expect(chooseSeats(wanted, free, 2).map(seatNumber)).toEqual(numbers);
});

test('their names leave the replica out where there is but one', () => {
  expect(seatNames(seatsOf(1), 1)).toBe('towers 0 and 1');
  expect(seatNames([{ replica: 0, tower: 1 }], 1)).toBe('tower 1');
  expect(seatNames(without({ replica: 1, tower: 0 }), 2)).toBe('towers 0 and 1 of replica 0, tower 1 of replica 1');
});
