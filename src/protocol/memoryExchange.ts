// The exchange of two towers in one process (`--tower both`, tests): a tensor is handed over by reference.
// Invariant: what is received is what was sent, in the same memory: hence neither side may write to it.

import type { Exchange, OneWayLink, Swap, SwapTag, TensorData } from '../spec/exchange.ts';
import { PeerLostError } from '../spec/errors.ts';
import { towers } from '../spec/layout.ts';
import { SwapBoard, towerEnds } from './swapBoard.ts';
import type { ExchangeLimits } from './swapBoard.ts';

type MemoryEnd = Exchange & OneWayLink;

/** Two connected ends, tower 0's first; closing one closes the other. */
export function memoryExchangePair(limits: ExchangeLimits = {}): [MemoryEnd, MemoryEnd] {
  const bytesSent = [0, 0] as [number, number];
  const failBoth = (reason: Error): void => {
    for (const board of boards) board.fail(reason);
  };
  const boards = [new SwapBoard(0, limits, failBoth), new SwapBoard(1, limits, failBoth)] as const;
  const ends = towers.map((tower): MemoryEnd => {
    const [mine, theirs] = tower === 0 ? boards : ([boards[1], boards[0]] as const);
    return {
      swap(tag: SwapTag, data: TensorData): Swap {
        const received = this.take(tag, data.values.byteLength);
        if (mine.failure === undefined) this.give(tag, data);
        return { received };
      },
      give(tag: SwapTag, data: TensorData): void {
        if (mine.failure !== undefined) throw mine.failure;
        bytesSent[tower] += data.values.byteLength;
        try {
          theirs.arrive(tag, data);
        } catch (error) {
          failBoth(error as Error);
        }
      },
      take: (tag: SwapTag, bytes: number): Promise<TensorData> => mine.claim(tag, bytes),
      // It is the other tower's memory.
      release: () => undefined,
      get bytesSent() {
        return bytesSent[tower];
      },
      close(reason?: Error): void {
        failBoth(reason ?? new PeerLostError(`${(limits.ends ?? towerEnds)[tower]} closed the exchange`));
      },
    };
  });
  return ends as [MemoryEnd, MemoryEnd];
}
