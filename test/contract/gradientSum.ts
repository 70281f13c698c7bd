// What every gradient sum promises, as one suite: run over rings in memory, over ipc and over tcp by gradientSum.test.ts.

import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import type { ExchangeLimits } from '../../src/protocol/swapBoard.ts';
import { PeerLostError } from '../../src/spec/errors.ts';
import type { GradientSum } from '../../src/spec/gradientSum.ts';

/** Opens the ends of so many replicas, ready to sum. */
export type OpenReplicas = (replicas: number, limits: ExchangeLimits) => Promise<GradientSum[]>;

/** Values of many magnitudes and both signs, so that another order of additions is another sum. */
function gradientsOf(replica: number, length: number): Float32Array {
  return Float32Array.from({ length }, (_, i) => Math.sin(1 + i + 1000 * replica) * 10 ** ((i * 7 + replica) % 9));
}

/** The sum in the order that the ring keeps: the part that starts at replica c in the order c, c + 1, ... */
function summedInOrder(inputs: readonly Float32Array[]): Float32Array {
  const replicas = inputs.length;
  const length = inputs[0]!.length;
  const edge = (part: number): number => Math.floor((part * length) / replicas);
  const sum = new Float32Array(length);
  for (let part = 0; part < replicas; part++) {
    for (let i = edge(part); i < edge(part + 1); i++) {
      let total = inputs[part]![i]!;
      for (let k = 1; k < replicas; k++) total = Math.fround(total + inputs[(part + k) % replicas]![i]!);
      sum[i] = total;
    }
  }
  return sum;
}

export function gradientSumContract(transport: string, openReplicas: OpenReplicas): void {
  describe(`a gradient sum over ${transport}`, () => {
    const opened: GradientSum[] = [];

    async function open(replicas: number, limits: ExchangeLimits = {}): Promise<GradientSum[]> {
      const ends = await openReplicas(replicas, limits);
      opened.push(...ends);
      return ends;
    }

    afterEach(() => {
      for (const end of opened.splice(0)) end.close();
    });

    test.each([2, 3, 5])(
      'gives each of %i replicas the same bytes: the sum, added up in the order of the ring',
      async (replicas) => {
        const ends = await open(replicas);
        let step = 0;
        const lengths = fc.oneof(fc.nat({ max: 12 }), fc.nat({ max: 3000 }));
        await fc.assert(
          fc.asyncProperty(lengths, async (length) => {
            const inputs = ends.map((_, replica) => gradientsOf(replica, length));
            const expected = summedInOrder(inputs);
            const tag = { step: step++, bucket: 'fc6.weight.own 0' };
            await Promise.all(ends.map((end, replica) => end.sum(tag, inputs[replica]!)));
            for (const summed of inputs) expect(summed).toEqual(expected);
          }),
          { numRuns: 20 },
        );
      },
    );

    test('sums 20 MB', async () => {
      const ends = await open(2);
      const inputs = ends.map((_, replica) => new Float32Array(5_000_000).fill(1 + replica / 3));
      const expected = summedInOrder(inputs);
      await Promise.all(ends.map((end, replica) => end.sum({ step: 1, bucket: 'large' }, inputs[replica]!)));
      for (const summed of inputs) expect(Buffer.from(summed.buffer).equals(Buffer.from(expected.buffer))).toBe(true);
    });

    test('keeps many sums apart that go on side by side, also where one replica is late', async () => {
      const ends = await open(3);
      const buckets = Array.from({ length: 12 }, (_, i) => ({ bucket: `bucket ${i}`, length: 100 + i }));
      const inputs = ends.map((_, replica) => buckets.map(({ length }, i) => gradientsOf(replica + 10 * i, length)));
      const expected = buckets.map((_, i) => summedInOrder(inputs.map((own) => own[i]!)));
      const start = async (replica: number): Promise<void> => {
        const own = inputs[replica]!;
        await Promise.all(buckets.map(({ bucket }, i) => ends[replica]!.sum({ step: 4, bucket }, own[i]!)));
      };
      const early = [start(0), start(2)];
      await new Promise((resolve) => setTimeout(resolve, 30));
      await Promise.all([...early, start(1)]);
      for (const own of inputs) expect(own).toEqual(expected);
    });

    test('sends 2 (R - 1) / R of the bytes', async () => {
      const ends = await open(3);
      await Promise.all(ends.map((end) => end.sum({ step: 1, bucket: 'conv1' }, new Float32Array(300))));
      expect(ends.map(({ bytesSent }) => bytesSent)).toEqual([1600, 1600, 1600]);
    });

    test('rejects what is pending in every replica when one of them leaves, and whatever is asked for afterwards', async () => {
      const ends = await open(3);
      const pending = [0, 1].map((replica) => ends[replica]!.sum({ step: 1, bucket: 'fc7' }, new Float32Array(9)));
      ends[2]!.close();
      for (const result of await Promise.allSettled(pending))
        expect(result).toMatchObject({ status: 'rejected', reason: { name: 'PeerLostError' } });
      await expect(ends[0]!.sum({ step: 2, bucket: 'fc7' }, new Float32Array(9))).rejects.toBeInstanceOf(PeerLostError);
    });

    test('gives up after its deadline, naming who is waited for, the step and the bucket', async () => {
      const [zero] = await open(2, { timeoutMs: 50 });
      const sum = zero!.sum({ step: 12, bucket: 'fc6.bias and on' }, new Float32Array(9));
      await expect(sum).rejects.toThrow(/replica 0 waited .* for replica 1 at step 12, fc6.bias and on \(sum/);
    });

    test('gives up when its signal says so', async () => {
      const stop = new AbortController();
      const [zero] = await open(2, { signal: stop.signal });
      const sum = zero!.sum({ step: 1, bucket: 'fc6' }, new Float32Array(9));
      stop.abort(new PeerLostError('the generation was raised'));
      await expect(sum).rejects.toThrow('the generation was raised');
    });

    test('refuses gradients of another size', async () => {
      const [zero, one] = await open(2);
      const sums = [
        zero!.sum({ step: 1, bucket: 'fc6' }, new Float32Array(8)),
        one!.sum({ step: 1, bucket: 'fc6' }, new Float32Array(6)),
      ];
      const results = await Promise.allSettled(sums);
      for (const result of results) expect(result).toMatchObject({ status: 'rejected', reason: { name: 'PeerLostError' } });
      expect(JSON.stringify(results.map((result) => String((result as PromiseRejectedResult).reason)))).toMatch(
        /values of fc6 instead of/,
      );
    });
  });
}
