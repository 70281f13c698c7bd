// The gradient sum's contract over every transport.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { memoryExchangePair } from '../../src/protocol/memoryExchange.ts';
import type { ExchangeLimits } from '../../src/protocol/swapBoard.ts';
import { openRing } from '../protocol/rings.ts';
import { newLinkCurves } from '../../src/protocol/newKeys.ts';
import { openZeromqPair } from '../protocol/zeromqPairs.ts';
import { gradientSumContract } from './gradientSum.ts';

const folder = mkdtempSync(join(tmpdir(), 'sum-'));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

gradientSumContract('memory', (replicas, limits) =>
  openRing(replicas, (each) => Promise.resolve(memoryExchangePair(each)), limits),
);

let paths = 0;
const ipcLink = (limits: ExchangeLimits) => openZeromqPair(`ipc://${join(folder, `link-${paths++}`)}`, limits);
gradientSumContract('ipc', (replicas, limits) => openRing(replicas, ipcLink, limits));

gradientSumContract('tcp', (replicas, limits) => openRing(replicas, (each) => openZeromqPair('tcp://127.0.0.1:0', each), limits));

gradientSumContract('tcp with CURVE', (replicas, limits) =>
  openRing(replicas, (each) => openZeromqPair('tcp://127.0.0.1:0', each, newLinkCurves()), limits),
);
