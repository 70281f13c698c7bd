// Shards share a batch out: every row once, in order, as evenly as it goes.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { shardsOf } from '../../src/spec/shards.ts';

test('shards follow one another, hold every row once, and differ by one row at most, the larger ones first', () => {
  fc.assert(
    fc.property(fc.nat({ max: 1000 }), fc.integer({ min: 1, max: 64 }), (rows, replicas) => {
      const shards = shardsOf(rows, replicas);
      expect(shards.length).toBe(replicas);
      let next = 0;
      for (const { first, count, of } of shards) {
        expect([first, of]).toEqual([next, rows]);
        next += count;
      }
      expect(next).toBe(rows);
      const counts = shards.map(({ count }) => count);
      expect(counts).toEqual([...counts].sort((a, b) => b - a));
      expect(counts[0]! - counts.at(-1)!).toBeLessThanOrEqual(1);
    }),
  );
});
