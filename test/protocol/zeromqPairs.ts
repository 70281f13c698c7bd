// Two ends of a ZeroMQ exchange in one process.

import type { LinkCurve } from '../../src/protocol/curveKeys.ts';
import type { ExchangeLimits } from '../../src/protocol/swapBoard.ts';
import { ZeromqExchange } from '../../src/protocol/zeromqExchange.ts';

/** Encrypted where there are keys for both ends. */
export async function openZeromqPair(
  address: string,
  limits: ExchangeLimits,
  curves?: readonly [LinkCurve, LinkCurve],
): Promise<[ZeromqExchange, ZeromqExchange]> {
  const options = { ...limits, run: 'contract', generation: 1, token: 'a-token-of-16-characters', joinTimeoutMs: 5000 };
  const zero = await ZeromqExchange.bind({ ...options, address, curve: curves?.[0] });
  const one = await ZeromqExchange.connect({ ...options, address: zero.address, curve: curves?.[1] });
  await Promise.all([zero.ready, one.ready]);
  return [zero, one];
}
