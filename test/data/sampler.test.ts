import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createSampler, epochOrder } from '../../src/data/sampler.ts';
import { stepsPerEpoch } from '../../src/spec/schedule.ts';
import type { SamplerOptions } from '../../src/data/sampler.ts';

const anyOptions: fc.Arbitrary<SamplerOptions> = fc.record({
  seed: fc.maxSafeNat(),
  shuffle: fc.constantFrom('epoch', 'none'),
  count: fc.integer({ min: 1, max: 300 }),
  batch: fc.integer({ min: 1, max: 320 }),
});

const ascending = (values: Iterable<number>) => [...values].sort((a, b) => a - b);

describe('the sampler', () => {
  test('hands out every picture exactly once an epoch, in full batches but for the last', () => {
    fc.assert(
      fc.property(anyOptions, fc.nat(5), (options, epoch) => {
        const batchAt = createSampler(options);
        const steps = stepsPerEpoch(options, options.count);
        const batches = Array.from({ length: steps }, (_, i) => batchAt(epoch * steps + i));
        expect(batches.every((sampled) => sampled.epoch === epoch)).toBe(true);
        expect(batches.slice(0, -1).every(({ indices }) => indices.length === options.batch)).toBe(true);
        const all = batches.flatMap(({ indices }) => [...indices]);
        expect(ascending(all)).toEqual(Array.from({ length: options.count }, (_, i) => i));
      }),
    );
  });

  test('gives a step the same batch in whatever order steps are asked for', () => {
    fc.assert(
      fc.property(anyOptions, fc.array(fc.nat(2000), { minLength: 1, maxLength: 20 }), (options, steps) => {
        const batchAt = createSampler(options);
        for (const step of steps) expect(batchAt(step)).toEqual(createSampler(options)(step));
      }),
    );
  });

  test('changes the order with the epoch and with the seed, or not at all without shuffling', () => {
    const options = { seed: 1, shuffle: 'epoch', count: 1000 } as const;
    const first = epochOrder(options, 0);
    expect(epochOrder(options, 0)).toEqual(first);
    expect(epochOrder(options, 1)).not.toEqual(first);
    expect(epochOrder({ ...options, seed: 2 }, 0)).not.toEqual(first);
    const unshuffled = epochOrder({ ...options, shuffle: 'none' }, 3);
    expect([...unshuffled]).toEqual(ascending(unshuffled));
  });

  test('gives indices a buffer of their own, so that posting a batch does not copy the epoch', () => {
    const { indices } = createSampler({ seed: 1, shuffle: 'epoch', count: 1000, batch: 10 })(0);
    expect(indices.buffer.byteLength).toBe(40);
  });
});
