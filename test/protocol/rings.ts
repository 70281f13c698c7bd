// Rings of replicas in one process: R links, each from a replica to the next.

import { memoryExchangePair } from '../../src/protocol/memoryExchange.ts';
import { RingSum } from '../../src/protocol/ringSum.ts';
import type { EndNames, ExchangeLimits } from '../../src/protocol/swapBoard.ts';
import type { OneWayLink } from '../../src/spec/exchange.ts';
import type { GradientSum } from '../../src/spec/gradientSum.ts';

/** Opens a link whose first end is the one that hands gradients on. */
export type OpenLink = (limits: ExchangeLimits) => Promise<readonly [OneWayLink, OneWayLink]>;

export async function openRing(replicas: number, openLink: OpenLink, limits: ExchangeLimits = {}): Promise<GradientSum[]> {
  const order = Array.from({ length: replicas }, (_, replica) => replica);
  const links = await Promise.all(
    order.map((replica) => {
      const ends: EndNames = [`replica ${replica}`, `replica ${(replica + 1) % replicas}`];
      return openLink({ ...limits, ends });
    }),
  );
  return order.map((replica) => {
    const [next] = links[replica]!;
    const [, previous] = links.at(replica - 1)!;
    return new RingSum({ replica, replicas, next, previous });
  });
}

export function memoryRing(replicas: number, limits: ExchangeLimits = {}): Promise<GradientSum[]> {
  return openRing(replicas, (each) => Promise.resolve(memoryExchangePair(each)), limits);
}
