// The exchange's contract over every transport.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import type { LinkCurve } from '../../src/protocol/curveKeys.ts';
import { memoryExchangePair } from '../../src/protocol/memoryExchange.ts';
import { newLinkCurves } from '../../src/protocol/newKeys.ts';
import type { ExchangeLimits } from '../../src/protocol/swapBoard.ts';
import { ZeromqExchange } from '../../src/protocol/zeromqExchange.ts';
import type { Exchange } from '../../src/spec/exchange.ts';
import { exchangeContract } from './exchange.ts';

const folder = mkdtempSync(join(tmpdir(), 'exchange-'));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

async function openZeromqPair(
  address: string,
  limits: ExchangeLimits,
  curves?: readonly [LinkCurve, LinkCurve],
): Promise<[Exchange, Exchange]> {
  const options = { ...limits, run: 'contract', generation: 1, token: 'a-token-of-16-characters', joinTimeoutMs: 5000 };
  const zero = await ZeromqExchange.bind({ ...options, address, curve: curves?.[0] });
  const one = await ZeromqExchange.connect({ ...options, address: zero.address, curve: curves?.[1] });
  await Promise.all([zero.ready, one.ready]);
  return [zero, one];
}

exchangeContract('memory', (limits) => Promise.resolve(memoryExchangePair(limits)));

let paths = 0;
exchangeContract('ipc', (limits) => openZeromqPair(`ipc://${join(folder, `link-${String(paths++)}`)}`, limits));

exchangeContract('tcp', (limits) => openZeromqPair('tcp://127.0.0.1:0', limits));

exchangeContract('tcp with CURVE', (limits) => openZeromqPair('tcp://127.0.0.1:0', limits, newLinkCurves()));
