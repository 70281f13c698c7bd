// What every exchange promises, as one suite: run over memory, ipc, tcp and tcp with CURVE by exchange.test.ts.

import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import type { ExchangeLimits } from '../../src/protocol/swapBoard.ts';
import { PeerLostError } from '../../src/spec/errors.ts';
import type { Exchange, SwapTag, TensorData } from '../../src/spec/exchange.ts';

/** Opens two connected ends, ready for swaps: tower 0's first. */
export type OpenPair = (limits: ExchangeLimits) => Promise<[Exchange, Exchange]>;

function tagOf(step: number, site = 'conv3'): SwapTag {
  return { step, site, phase: 'forward', microBatch: 0 };
}

/** Values that are cheap to make and differ in every bit pattern that matters: NaN, -0 and denormals among them. */
function tensorOf(shape: readonly number[], seed: number): TensorData {
  const length = shape.reduce((product, size) => product * size, 1);
  const bits = new Uint32Array(length);
  for (let i = 0; i < length; i++) bits[i] = Math.imul(i + 1, 0x9e37_79b1) ^ Math.imul(seed, 0x85eb_ca6b);
  return { shape, values: new Float32Array(bits.buffer) };
}

function bytesOf(data: TensorData): Buffer {
  return Buffer.from(data.values.buffer, data.values.byteOffset, data.values.byteLength);
}

/** Bits, not values: NaN equals NaN, and -0 is not 0. */
function expectSame(received: TensorData, sent: TensorData): void {
  expect([...received.shape]).toEqual([...sent.shape]);
  expect(bytesOf(received).equals(bytesOf(sent))).toBe(true);
}

export function exchangeContract(transport: string, openPair: OpenPair): void {
  describe(`an exchange over ${transport}`, () => {
    const opened: Exchange[] = [];

    async function open(limits: ExchangeLimits = {}): Promise<[Exchange, Exchange]> {
      const pair = await openPair(limits);
      opened.push(...pair);
      return pair;
    }

    afterEach(() => {
      for (const end of opened.splice(0)) end.close();
    });

    test('hands tensors of any shape over bit for bit, in both directions', async () => {
      const [zero, one] = await open();
      let step = 0;
      const shapes = fc.array(fc.nat({ max: 40 }), { maxLength: 4 });
      await fc.assert(
        fc.asyncProperty(shapes, shapes, async (shape0, shape1) => {
          const tag = tagOf(step++);
          const sent0 = tensorOf(shape0, 2 * step);
          const sent1 = tensorOf(shape1, 2 * step + 1);
          const swap0 = zero.swap(tag, sent0);
          const swap1 = one.swap(tag, sent1);
          expectSame(await swap0.received, sent1);
          expectSame(await swap1.received, sent0);
        }),
        { numRuns: 30 },
      );
    });

    test('hands over empty tensors and one of 40 MB', async () => {
      const [zero, one] = await open();
      const large = tensorOf([10, 1000, 1000], 7);
      const empty = tensorOf([0, 13, 13, 128], 0);
      const swap0 = zero.swap(tagOf(0), large);
      const swap1 = one.swap(tagOf(0), empty);
      expectSame(await swap1.received, large);
      expectSame(await swap0.received, empty);
    });

    test('hands over a view into a larger buffer without its surroundings', async () => {
      const [zero, one] = await open();
      const values = new Float32Array(tensorOf([100], 3).values.buffer, 4 * 7, 50);
      const swap0 = zero.swap(tagOf(0), { shape: [50], values });
      const swap1 = one.swap(tagOf(0), tensorOf([1], 4));
      expectSame(await swap1.received, { shape: [50], values });
      await swap0.received;
    });

    test('matches by tag: what was sent before it was asked for, and in another order, arrives where it belongs', async () => {
      const [zero, one] = await open();
      const tags: SwapTag[] = [];
      for (const site of ['conv3', 'fc6', 'fc7', 'fc8']) {
        for (const phase of ['forward', 'backward', 'evaluate'] as const) {
          for (const microBatch of [0, 1]) tags.push({ step: 5, site, phase, microBatch });
        }
      }
      const swaps0 = tags.map((tag, i) => zero.swap(tag, tensorOf([i + 1], i)));
      const reversed = tags.map((tag, i) => ({ tag, i })).reverse();
      const swaps1 = reversed.map(({ tag, i }) => one.swap(tag, tensorOf([i + 1], 1000 + i)));
      for (const [place, { i }] of reversed.entries()) {
        const swap1 = swaps1[place];
        const swap0 = swaps0[i];
        if (swap0 === undefined || swap1 === undefined) throw new Error('a swap is missing');
        expectSame(await swap1.received, tensorOf([i + 1], i));
        expectSame(await swap0.received, tensorOf([i + 1], 1000 + i));
      }
    });

    test('keeps what was received until it is released, and writes what comes next where nobody reads', async () => {
      const [zero, one] = await open();
      const kept: { received: TensorData; sent: TensorData }[] = [];
      for (let step = 0; step < 6; step++) {
        const sent = tensorOf([5000], step);
        const swap0 = zero.swap(tagOf(step), tensorOf([1], 0));
        const swap1 = one.swap(tagOf(step), sent);
        const received = await swap0.received;
        await swap1.received;
        expectSame(received, sent);
        if (step % 2 === 0) kept.push({ received, sent });
        else zero.release(received);
      }
      for (const { received, sent } of kept) expectSame(received, sent);
    });

    test('counts the bytes of tensors handed over, nothing else', async () => {
      const [zero, one] = await open();
      const swap0 = zero.swap(tagOf(0), tensorOf([3, 5], 1));
      const swap1 = one.swap(tagOf(0), tensorOf([2], 1));
      await Promise.all([swap0.received, swap1.received]);
      expect([zero.bytesSent, one.bytesSent]).toEqual([60, 8]);
    });

    test('rejects what is pending when it is closed, and whatever is asked for afterwards', async () => {
      const [zero] = await open();
      const swap = zero.swap(tagOf(0), tensorOf([2], 1));
      const reason = new PeerLostError('the run is over');
      zero.close(reason);
      await expect(swap.received).rejects.toBe(reason);
      await expect(zero.swap(tagOf(1), tensorOf([2], 1)).received).rejects.toBe(reason);
    });

    test('rejects what is pending when the other tower closes', async () => {
      const [zero, one] = await open();
      const swap0 = zero.swap(tagOf(0), tensorOf([2], 1));
      one.close();
      await expect(swap0.received).rejects.toBeInstanceOf(PeerLostError);
    });

    test('is not held against anybody that a rejected swap was never awaited', async () => {
      const [zero] = await open();
      zero.swap(tagOf(0), tensorOf([2], 1));
      zero.close();
      // An unhandled rejection would fail the run within a turn of the event loop.
      await new Promise((resolve) => setImmediate(resolve));
    });

    test('gives up after its deadline, naming tower, step and site', async () => {
      const [zero] = await open({ timeoutMs: 50 });
      const swap = zero.swap({ step: 12, site: 'fc6', phase: 'backward', microBatch: 0 }, tensorOf([2], 1));
      await expect(swap.received).rejects.toThrow(/tower 0 waited .* for tower 1 at step 12, fc6 \(backward/);
      await expect(swap.received).rejects.toBeInstanceOf(PeerLostError);
    });

    test('does not hold a blocked event loop against the other tower', async () => {
      const [zero, one] = await open({ timeoutMs: 50 });
      const swap0 = zero.swap(tagOf(0), tensorOf([2], 1));
      const swap1 = one.swap(tagOf(0), tensorOf([2], 2));
      const until = performance.now() + 150;
      while (performance.now() < until);
      await Promise.all([swap0.received, swap1.received]);
    });

    test('gives up when its signal says so', async () => {
      const stop = new AbortController();
      const [zero] = await open({ signal: stop.signal });
      const swap = zero.swap(tagOf(0), tensorOf([2], 1));
      stop.abort(new PeerLostError('the generation was raised'));
      await expect(swap.received).rejects.toThrow('the generation was raised');
    });

    test('refuses a tag that is used twice', async () => {
      const [zero] = await open();
      zero.swap(tagOf(0), tensorOf([2], 1));
      await expect(zero.swap(tagOf(0), tensorOf([2], 1)).received).rejects.toThrow('two swaps with one tag');
    });

    test('ends when the other tower runs away: more than 64 tensors that nobody asked for', async () => {
      const [zero, one] = await open();
      const first = one.swap(tagOf(0, 'never'), tensorOf([1], 1));
      for (let step = 0; step < 70; step++) one.swap(tagOf(step), tensorOf([1], 1));
      await expect(first.received).rejects.toBeInstanceOf(PeerLostError);
      await expect(zero.swap(tagOf(100), tensorOf([1], 1)).received).rejects.toThrow(/too early/);
    });
  });
}
