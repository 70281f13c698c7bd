// The other side of `npm run bench:flood`, as processes of the lowest priority: who floods should take nothing from the trainer but what the
// trainer does for it. `strangers.js flood` answers each line `{port, rate, idle, seconds}` with what it did; `strangers.js sink` prints
// the port of a listener that does nothing but accept and hang up, for comparison.

import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { setPriority } from 'node:os';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';

const lowest = 19;
/** As the coordinator does: whoever is silent for so long is thrown out. */
const silenceMs = 5000;

const orderSchema = z.object({ port: z.int(), rate: z.number(), idle: z.int(), seconds: z.number() });
type Order = z.infer<typeof orderSchema>;

function greeting(mechanism: string): Buffer {
  const name = Buffer.alloc(20);
  name.write(mechanism);
  return Buffer.concat([Buffer.from('ff00000000000000007f0300', 'hex'), name, Buffer.alloc(32)]);
}

/** What is said before hanging up: garbage, HTTP, a greeting of ZMTP without and with CURVE, the latter with a HELLO that nobody signed. */
const openings: readonly Buffer[] = [
  Buffer.alloc(200, 0xa5),
  Buffer.from('GET / HTTP/1.1\r\n\r\n'),
  greeting('NULL'),
  Buffer.concat([greeting('CURVE'), Buffer.of(4, 200), Buffer.from('\u0005HELLO\u0001\u0000'), Buffer.alloc(192, 0x5a)]),
];

/** Bad connections at a rate, and idle ones that are opened anew when they are thrown out; counts both. */
async function flood({ port, rate, idle, seconds }: Order): Promise<{ bad: number; idle: number }> {
  const open = (): Socket =>
    connect({ host: '127.0.0.1', port })
      .on('error', () => undefined)
      .resume();
  const silent: Socket[] = [];
  const count = { bad: 0, idle: 0 };
  const startMs = performance.now();
  let renewedMs = -Infinity;
  for (;;) {
    const elapsedMs = performance.now() - startMs;
    if (elapsedMs > 1000 * seconds) break;
    if (elapsedMs - renewedMs > silenceMs) {
      renewedMs = elapsedMs;
      for (const socket of silent.splice(0)) socket.destroy();
      for (let i = 0; i < idle; i++, count.idle++) silent.push(open());
    }
    for (const due = (rate * elapsedMs) / 1000; count.bad < due; count.bad++) {
      const socket = open();
      socket.write(openings[count.bad % openings.length] ?? '', () => socket.resetAndDestroy());
    }
    await sleep(5);
  }
  for (const socket of silent) socket.destroy();
  return count;
}

setPriority(lowest);
try {
  // Where the kernel groups processes by session, a priority counts within the group, and the group has its own.
  writeFileSync('/proc/self/autogroup', String(lowest));
} catch {
  // It does not group them.
}
const lines = createInterface({ input: process.stdin });
if (process.argv[2] === 'sink') {
  const server = createServer((socket) => {
    const hangUp = setTimeout(() => socket.destroy(), silenceMs);
    socket
      .on('error', () => undefined)
      .on('close', () => {
        clearTimeout(hangUp);
      });
    socket.on('data', () => socket.destroy());
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  console.log(JSON.stringify({ port: (server.address() as AddressInfo).port }));
  await once(lines, 'close');
  process.exit();
}
for await (const line of lines) {
  const before = process.cpuUsage();
  const count = await flood(orderSchema.parse(JSON.parse(line)));
  const { user, system } = process.cpuUsage(before);
  console.log(JSON.stringify({ ...count, cpuMs: (user + system) / 1000 }));
}
