// Peers that mean harm, at every port: the coordinator's and tower 0's, with keys and without. Whatever they send, whoever has a right to
// be there notices nothing, no memory stays taken, and nothing is thrown.

import type { Socket as RawSocket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { Dealer, Router } from 'zeromq';
import { encodeMessage, frameBytes } from '../../src/protocol/frames.ts';
import { newKeys, newLinkCurves } from '../../src/protocol/newKeys.ts';
import { bindSocket, listenerOptions, socketOptions, watchSocket } from '../../src/protocol/sockets.ts';
import { ZeromqExchange } from '../../src/protocol/zeromqExchange.ts';
import { hostileHeaders, withRecords } from './hostileHeaders.ts';
import { Bench, closed, hello, isMessage, next } from './sockets.ts';
import { frame, frameHead, greeting, ready } from './zmtp.ts';

const bench = new Bench();
afterEach(() => {
  bench.close();
});

interface Port {
  readonly address: string;
  /** Does what the port is for, and fails where it cannot. */
  readonly stillWorks: () => Promise<void>;
  readonly dropped: () => number;
}

/** Far shorter than in a run, so that who stays silent is soon closed; a greeting on loopback takes a millisecond. */
const handshakeMs = 500;

async function coordinatorPort(hasKeys: boolean): Promise<Port> {
  const [ours, theirs] = [newKeys(), newKeys()];
  const curve = { keys: ours, allowed: [{ publicKey: theirs.publicKey, name: 'one' }] };
  const coordinator = await bench.coordinator({ handshakeMs, ...(hasKeys ? { curve } : {}) });
  const { worker } = await bench.joined(coordinator, hasKeys ? { keys: theirs, serverKey: ours.publicKey } : undefined);
  return {
    address: coordinator.address,
    stillWorks: async () => {
      worker.send({ type: 'credit', step: 0, count: 1 });
      await next(coordinator.events, isMessage('credit'));
    },
    dropped: () => coordinator.dropped.foreign + coordinator.dropped.malformed,
  };
}

async function towerPort(hasKeys: boolean): Promise<Port> {
  const curves = hasKeys ? newLinkCurves() : undefined;
  const options = { run: 'r1', generation: 1, token: 'a-token-of-16-characters', joinTimeoutMs: 5000, times: { handshakeMs } };
  const zero = await ZeromqExchange.bind({ ...options, address: 'tcp://127.0.0.1:0', curve: curves?.[0] });
  const one = await ZeromqExchange.connect({ ...options, address: zero.address, curve: curves?.[1] });
  bench.onClose(() => {
    zero.close();
    one.close();
  });
  await Promise.all([zero.ready, one.ready]);
  let step = 0;
  return {
    address: zero.address,
    stillWorks: async () => {
      const tag = { step: step++, site: 'conv3', phase: 'forward', microBatch: 0 } as const;
      const swaps = [zero, one].map((end) => end.swap(tag, { shape: [1], values: Float32Array.of(step) }).received);
      for (const { values } of await Promise.all(swaps)) expect(values).toEqual(Float32Array.of(step));
    },
    dropped: () => zero.dropped.foreign,
  };
}

const ports = [
  ["the coordinator's port", () => coordinatorPort(false)],
  ["the coordinator's port with keys", () => coordinatorPort(true)],
  ["tower 0's port", () => towerPort(false)],
  ["tower 0's port with keys", () => towerPort(true)],
] as const;
const plainPorts = ports.filter(([name]) => !name.includes('keys'));

const workerId = (): string => `worker-${Math.random().toString(16).slice(2).padEnd(32, '0').slice(0, 32)}`;
const nullPeer = (): Buffer => Buffer.concat([greeting('NULL'), ready(workerId())]);

/** Resolves when the bytes have left, or never will. */
function say(raw: RawSocket, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve) =>
    raw.write(bytes, () => {
      resolve();
    }),
  );
}

/** A connection past NULL's handshake, where there is no key to show. */
async function joined(address: string): Promise<RawSocket> {
  const raw = await bench.raw(address);
  const answered = new Promise<void>((resolve) => {
    let heard = '';
    raw.on('data', (bytes) => {
      heard += bytes.toString('latin1');
      if (heard.includes('READY')) resolve();
    });
  });
  await say(raw, nullPeer());
  await answered;
  return raw;
}

describe.each(ports)('%s', (_, open) => {
  test('outlives random bytes, alone or behind any part of a good greeting', async () => {
    const port = await open();
    const begin = fc.constantFrom(
      Buffer.alloc(0),
      greeting('NULL').subarray(0, 10),
      greeting('NULL').subarray(0, 12),
      greeting('NULL'),
      greeting('CURVE'),
      greeting('PLAIN'),
      greeting('NULL', [255, 255]),
      greeting('x'.repeat(20)),
      nullPeer(),
      Buffer.concat([greeting('CURVE'), frame(Buffer.from('\u0005HELLO'), { command: true })]),
    );
    await fc.assert(
      fc.asyncProperty(begin, fc.uint8Array({ maxLength: 3000 }), async (head, tail) => {
        const raw = await bench.raw(port.address);
        await say(raw, Buffer.concat([head, tail]));
        await sleep(2);
        raw.destroy();
      }),
      { numRuns: 150 },
    );
    await port.stillWorks();
  });

  test('closes frames of 1 MiB and a bit, 4 GB and more before a byte of them is kept', async () => {
    const port = await open();
    const before = process.memoryUsage.rss();
    const lengths = [BigInt(frameBytes) + 65n, 100_000_000n, 2n ** 32n, 2n ** 63n - 1n, 2n ** 64n - 1n];
    const starts = [nullPeer(), greeting('NULL'), greeting('CURVE'), Buffer.alloc(0)];
    const raws = await Promise.all(
      starts.flatMap((start) =>
        lengths.flatMap((length) =>
          [false, true].map(async (command) => {
            const raw = await bench.raw(port.address);
            await say(raw, Buffer.concat([start, frameHead(length, { command, more: true }), Buffer.alloc(1000)]));
            return raw;
          }),
        ),
      ),
    );
    await Promise.all(raws.map(closed));
    // 40 connections and their buffers; a frame of 100 MB would show.
    expect(process.memoryUsage.rss() - before).toBeLessThan(50e6);
    await port.stillWorks();
  });
});

describe.each(plainPorts)('%s', (_, open) => {
  test('closes the same behind a good handshake', async () => {
    const port = await open();
    const lengths = [BigInt(frameBytes) + 1n, 100_000_000n, 2n ** 32n, 2n ** 64n - 1n];
    for (const length of lengths) {
      const raw = await joined(port.address);
      await say(raw, frameHead(length));
      await closed(raw);
    }
    await port.stillWorks();
  });

  test('counts and drops hostile headers of all kinds', async () => {
    const port = await open();
    const headers = Object.values(hostileHeaders).filter((header) => header.length <= frameBytes);
    const dealer = new Dealer({ linger: 0, routingId: workerId() });
    bench.onClose(() => {
      dealer.close();
    });
    dealer.connect(port.address);
    for (const header of headers) await dealer.send([header]);
    await expect.poll(port.dropped).toBe(headers.length);
    await port.stillWorks();
  });

  test('drops messages of any number of frames with anything in them', async () => {
    const port = await open();
    const dealer = new Dealer({ linger: 0, routingId: workerId() });
    bench.onClose(() => {
      dealer.close();
    });
    dealer.connect(port.address);
    let sent = 0;
    const header = fc.oneof(
      fc.uint8Array({ maxLength: 500 }),
      fc.anything({ withDate: true, withMap: true, withSet: true }).map((value) => withRecords.pack(value)),
      // Nearly good: what a worker says, with something in the place of one of its fields.
      fc
        .tuple(fc.constantFrom(...Object.keys(hello), 'version', 'run', 'generation', 'payload'), fc.anything())
        .map(([field, value]) => encodeMessage({ run: '', generation: 0, ...hello, type: 'credit', [field]: asJson(value) })[0]!),
    );
    await fc.assert(
      fc.asyncProperty(header, fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 20 }), async (head, rest) => {
        await dealer.send([head, ...rest]);
        sent++;
      }),
      { numRuns: 300 },
    );
    await expect.poll(port.dropped).toBe(sent);
    await port.stillWorks();
  });

  test('gives the memory of a message without an end back when its sender hangs up', async () => {
    const port = await open();
    const before = process.memoryUsage.rss();
    const part = frame(Buffer.alloc(64 * 1024), { more: true });
    for (let round = 0; round < 3; round++) {
      const raw = await joined(port.address);
      for (let i = 0; i < 500; i++) await say(raw, part);
      await port.stillWorks();
      raw.destroy();
      await sleep(50);
    }
    // Three rounds of 32 MB: one of them may still be in the allocator's hands.
    expect(process.memoryUsage.rss() - before).toBeLessThan(60e6);
    await port.stillWorks();
  });
});

test('a listening socket hears of all that strangers do, in turns of 50 ms', async () => {
  const socket = new Router({ ...socketOptions(), ...listenerOptions });
  bench.onClose(() => {
    socket.close();
  });
  const heardMs: number[] = [];
  const disconnect = (): void => void heardMs.push(performance.now());
  void watchSocket(socket, { disconnect }, { isListening: true });
  const address = await bindSocket(socket, 'tcp://127.0.0.1:0');
  const [visits, pauseMs] = [100, 5];
  for (let i = 0; i < visits; i++) {
    const raw = await bench.raw(address);
    await say(raw, greeting('PLAIN'));
    await sleep(pauseMs);
    raw.destroy();
  }
  await expect.poll(() => heardMs.length).toBe(visits);
  const turns = heardMs.filter((ms, i) => ms - (heardMs[i - 1] ?? 0) > 1);
  // Half a second and more has ten turns, each perhaps with one that comes before all others; one by one they would be a hundred.
  expect(turns.length).toBeLessThan(visits / 2);
});

/** What msgpackr can pack at all. */
function asJson(value: unknown): unknown {
  return JSON.parse(JSON.stringify([value])) as unknown;
}
