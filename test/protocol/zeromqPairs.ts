// Two ends of a ZeroMQ exchange in one process.

import type { ExchangeLimits } from '../../src/protocol/swapBoard.ts';
import { ZeromqExchange } from '../../src/protocol/zeromqExchange.ts';

export async function openZeromqPair(address: string, limits: ExchangeLimits): Promise<[ZeromqExchange, ZeromqExchange]> {
  const options = { ...limits, run: 'contract', generation: 1, token: 'a-token-of-16-characters', joinTimeoutMs: 5000 };
  const zero = await ZeromqExchange.bind({ ...options, address });
  const one = await ZeromqExchange.connect({ ...options, address: zero.address });
  await Promise.all([zero.ready, one.ready]);
  return [zero, one];
}
