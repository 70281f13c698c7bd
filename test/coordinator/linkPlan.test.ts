// Every link of a run has two ends with one token: a pair in each replica, and a ring for each tower.

import { expect, test } from 'vitest';
import { LinkPlan } from '../../src/coordinator/linkPlan.ts';
import { seatNumber, seatsOf } from '../../src/coordinator/seats.ts';
import type { Seat } from '../../src/coordinator/seats.ts';

const address = 'tcp://127.0.0.1:0';

/** Who listens for whom, by token. */
function linksOf(plan: LinkPlan, workers: readonly (readonly Seat[])[]): { from: number; to: number; neighbour: string }[] {
  const ends = workers.flatMap((seats) =>
    plan.endsOf(seats, address).map((end) => ({ ...end, seat: seats.find(({ tower }) => tower === end.tower)! })),
  );
  expect(new Set(ends.map(({ token }) => token)).size).toBe(ends.length / 2);
  return ends
    .filter(({ role }) => role === 'listen')
    .map(({ seat, neighbour, token }) => {
      const other = ends.find((end) => end.token === token && end.role === 'connect')!;
      expect(other.neighbour).toBe(neighbour);
      expect(seatNumber(plan.connector(seat, neighbour))).toBe(seatNumber(other.seat));
      return { from: seatNumber(seat), to: seatNumber(other.seat), neighbour };
    });
}

test('one pair has one link, and a worker with both towers none', () => {
  const [first, second] = seatsOf(1);
  expect(linksOf(new LinkPlan(1, false), [[first!], [second!]])).toEqual([{ from: 0, to: 1, neighbour: 'tower' }]);
  expect(new LinkPlan(1, false).endsOf(seatsOf(1), address)).toEqual([]);
});

test('links at paths have a path each, also in the next generation', () => {
  const paths = [1, 2].flatMap(() => {
    const plan = new LinkPlan(2, false);
    const ends = seatsOf(2).flatMap((seat) => plan.endsOf([seat], 'ipc:///tmp/run/link'));
    return ends.flatMap((end) => (end.role === 'listen' ? [end.address] : []));
  });
  // Two pairs, and a ring of two for each of the two towers.
  expect(new Set(paths).size).toBe(2 * 6);
  for (const path of paths) expect(path).toMatch(/^ipc:\/\/\/tmp\/run\/link-[0-9a-f]{8}$/);
});

test.each([2, 3])('%i replicas have a ring for each tower as well', (replicas) => {
  const seats = seatsOf(replicas);
  const links = linksOf(
    new LinkPlan(replicas, false),
    seats.map((seat) => [seat]),
  );
  expect(links.filter(({ neighbour }) => neighbour === 'tower').map(({ from, to }) => [from, to])).toEqual(
    Array.from({ length: replicas }, (_, replica) => [2 * replica, 2 * replica + 1]),
  );
  expect(links.filter(({ neighbour }) => neighbour === 'replica').map(({ from, to }) => [from, to])).toEqual(
    seats.map((seat) => [seatNumber(seat), (seatNumber(seat) + 2) % (2 * replicas)]),
  );
});

test('workers with both towers have the rings alone', () => {
  const [a, b, c, d] = seatsOf(2);
  const links = linksOf(new LinkPlan(2, false), [
    [a!, b!],
    [c!, d!],
  ]);
  expect(links.map(({ neighbour }) => neighbour)).toEqual(['replica', 'replica', 'replica', 'replica']);
});

test('where a run is encrypted every link has keys of its own, and each end the public key of the other', () => {
  const plan = new LinkPlan(2, true);
  const ends = seatsOf(2).flatMap((seat) => plan.endsOf([seat], address));
  for (const { role, token, curve } of ends) {
    const other = ends.find((end) => end.token === token && end.role !== role)!;
    expect(curve!.peerKey).toBe(other.curve!.publicKey);
  }
  expect(new Set(ends.map(({ curve }) => curve!.secretKey)).size).toBe(ends.length);
  const plain = new LinkPlan(2, false);
  for (const seat of seatsOf(2)) for (const { curve } of plain.endsOf([seat], address)) expect(curve).toBeUndefined();
});
