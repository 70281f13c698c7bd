// The exchange's contract over every transport.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { memoryExchangePair } from '../../src/protocol/memoryExchange.ts';
import { newLinkCurves } from '../../src/protocol/newKeys.ts';
import { openZeromqPair } from '../protocol/zeromqPairs.ts';
import { exchangeContract } from './exchange.ts';

const folder = mkdtempSync(join(tmpdir(), 'exchange-'));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

exchangeContract('memory', (limits) => Promise.resolve(memoryExchangePair(limits)));

let paths = 0;
exchangeContract('ipc', (limits) => openZeromqPair(`ipc://${join(folder, `link-${String(paths++)}`)}`, limits));

exchangeContract('tcp', (limits) => openZeromqPair('tcp://127.0.0.1:0', limits));

exchangeContract('tcp with CURVE', (limits) => openZeromqPair('tcp://127.0.0.1:0', limits, newLinkCurves()));
