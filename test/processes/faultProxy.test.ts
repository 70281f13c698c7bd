// The proxy that injects faults must not be one.

import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { FaultProxy } from './faultProxy.ts';

test('a proxy closes although what it held up was for somebody who is gone', async () => {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const proxy = await FaultProxy.listen(`tcp://127.0.0.1:${port}`);
  const near = connect(Number(proxy.address.split(':').at(-1)), '127.0.0.1').on('error', () => undefined);
  const [far] = (await once(server, 'connection')) as [Socket];
  proxy.blackhole();
  near.write(Buffer.alloc(1_000_000));
  await sleep(50);
  far.destroy();
  await sleep(50);
  proxy.heal();
  await sleep(50);
  const closed = proxy.close().then(() => 'closed');
  expect(await Promise.race([closed, sleep(2000)])).toBe('closed');
  near.destroy();
  server.close();
});
