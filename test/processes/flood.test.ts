// A run under a flood: ten thousand bad connections in a row and a thousand idle ones, at the coordinator and at tower 0, with keys and
// without. The oracle is the run that nobody disturbed: the same bytes after the same steps.

import { randomBytes } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { describe, expect } from 'vitest';
import { frame, frameHead, greeting } from '../protocol/zmtp.ts';
import { endless, freeAddress, test, until } from './stage.ts';

interface Flood {
  readonly withKeys: boolean;
  /** Bad connections to the coordinator; a fifth as many go to tower 0. */
  readonly bad: number;
  readonly idle: number;
}

/** Strangers can reach ports with keys; those without are on the loopback interface. */
const floods: readonly Flood[] = [
  { withKeys: true, bad: 10_000, idle: 1000 },
  { withKeys: false, bad: 2000, idle: 200 },
];
/** What the coordinator may grow by: an eighth of what the connections would take if 50 KB of each stayed. */
const growthBytes = 64e6;
/** Idle connections are closed five seconds after they were accepted; the machine may be busy. */
const idleMs = 5000 + 10_000;

/** What a bad connection says before it hangs up. */
const openings: readonly Buffer[] = [
  Buffer.alloc(0),
  randomBytes(200),
  Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'),
  greeting('NULL'),
  Buffer.concat([greeting('NULL'), randomBytes(100)]),
  Buffer.concat([
    greeting('CURVE'),
    frame(Buffer.concat([Buffer.from('\u0005HELLO\u0001\u0000'), randomBytes(192)]), { command: true }),
  ]),
  Buffer.concat([greeting('NULL'), frameHead(2n ** 62n)]),
  greeting('PLAIN'),
];

describe.each(floods)('a run under a flood, with keys: $withKeys', ({ withKeys, bad, idle }) => {
  test('comes to the same bytes, and the coordinator does not grow', async ({ stage }) => {
    const peerAddress = await freeAddress();
    if (withKeys) await stage.start(process.execPath, [stage.scripts.coordinator, 'keygen']).exit();
    const coordinator = stage.coordinator({ steps: endless, ...(withKeys ? { keys: 'keys' } : {}) });
    const address = await coordinator.address();
    const workers = [0, 1].map((tower) =>
      stage.worker({
        coordinator: address,
        tower,
        'peer-address': peerAddress,
        ...(withKeys ? { key: `keys/tower${String(tower)}.key`, 'coordinator-key': 'keys/coordinator.pub' } : {}),
      }),
    );
    await stage.reached(20);
    const before = residentBytes(coordinator.pid);
    const filesBefore = openFiles(coordinator.pid);
    const idlers = await Promise.all(Array.from({ length: idle }, () => open(address)));
    await until('the idle connections to be taken', () => openFiles(coordinator.pid) > filesBefore + 0.9 * idle, idleMs);
    await Promise.all([flood(address, bad), flood(peerAddress, bad / 5)]);
    const growth = residentBytes(coordinator.pid) - before;
    // Seen from the coordinator: a connection that its kernel has forgotten may look open from here.
    await until('the idle connections to be closed', () => openFiles(coordinator.pid) <= filesBefore + 10, idleMs);
    for (const socket of idlers) socket.destroy();
    expect(growth).toBeLessThan(growthBytes);

    await stage.reached(stage.steps().length + 5);
    coordinator.signal('SIGINT');
    expect(await coordinator.exit(), coordinator.output).toBe(75);
    expect(await Promise.all(workers.map((worker) => worker.exit()))).toEqual([75, 75]);
    // A line in a while, not one for each of them.
    expect(coordinator.lines.length).toBeLessThan(60);
    const steps = stage.steps().length;
    expect(stage.modelHash()).toBe(await stage.trainedModel({ steps }));
  });
});

/** A connection that says nothing. */
function open(address: string): Promise<Socket> {
  const { hostname, port } = new URL(address.replace('tcp:', 'http:'));
  const socket = connect({ host: hostname, port: Number(port) });
  // Being thrown out is what these connections are for.
  socket.on('error', () => undefined).resume();
  return new Promise((resolve) => {
    socket.once('connect', () => {
      resolve(socket);
    });
    socket.once('close', () => {
      resolve(socket);
    });
  });
}

/** So many connections, a few at a time: each says something, waits a moment, and hangs up with a reset. */
async function flood(address: string, count: number): Promise<void> {
  let next = 0;
  const visit = async (): Promise<void> => {
    while (next < count) {
      const opening = openings[next++ % openings.length]!;
      const socket = await open(address);
      await new Promise<void>((resolve) => {
        socket.write(opening, () => {
          resolve();
        });
      });
      socket.resetAndDestroy();
    }
  };
  await Promise.all(Array.from({ length: 8 }, visit));
}

function openFiles(pid: number): number {
  return readdirSync(`/proc/${String(pid)}/fd`).length;
}

function residentBytes(pid: number): number {
  const [, kilobytes] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${String(pid)}/status`, 'utf8'))!;
  return 1000 * Number(kilobytes);
}
