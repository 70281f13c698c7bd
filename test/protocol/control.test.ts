// The control link between the coordinator and its workers, both ends of it, on loopback: joining, orders, generations, and losing each other.

import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { Dealer, Router } from 'zeromq';
import { CoordinatorSocket } from '../../src/protocol/coordinatorSocket.ts';
import { encodeMessage } from '../../src/protocol/frames.ts';
import { decodeHeader, encodeHeader } from '../../src/protocol/header.ts';
import { protocolVersion, toWorkerSchema } from '../../src/protocol/messages.ts';
import { batchPayload, readBatchPayload } from '../../src/protocol/payloads.ts';
import { WorkerSocket } from '../../src/protocol/workerSocket.ts';
import { PeerLostError, RefusedError, UsageError } from '../../src/spec/errors.ts';
import { Bench, assign, closed, hello, isKind, isMessage, isOrder, next } from './sockets.ts';

const bench = new Bench();
afterEach(() => {
  bench.close();
});

/** A worker in a process of its own. */
function startWorker(address: string): ChildProcess {
  const child = spawn(process.execPath, [
    fileURLToPath(new URL('helloWorker.mjs', import.meta.url)),
    address,
    String(protocolVersion),
  ]);
  bench.onClose(() => child.kill('SIGKILL'));
  return child;
}

const batch = {
  type: 'batch',
  step: 1,
  kind: 'train',
  epoch: 0,
  index: 0,
  count: 20,
  first: 0,
  of: 20,
  height: 224,
  width: 224,
  channels: 3,
  hasColour: false,
} as const;

const otherVersion = new RegExp(`protocol ${String(protocolVersion + 1)}, this one ${String(protocolVersion)}`);

describe('a worker and its coordinator', () => {
  //   worker                    coordinator
  //     hello ------------------->
  //     <------------------- assign
  //     credit ------------------>
  //     <-------------------- batch
  test.each(['tcp', 'ipc'])('talk over %s', async (transport) => {
    const folder = mkdtempSync(join(tmpdir(), 'control-'));
    bench.onClose(() => {
      rmSync(folder, { recursive: true });
    });
    const coordinator = await bench.coordinator({
      address: transport === 'tcp' ? 'tcp://127.0.0.1:0' : `ipc://${folder}/control`,
    });
    const { worker, workerId } = await bench.joined(coordinator);
    expect(worker.session).toEqual({ run: 'r1', generation: 1 });

    worker.send({ type: 'credit', step: 0, count: 2 });
    expect((await next(coordinator.events, isMessage('credit'))).message.header).toMatchObject({
      count: 2,
      run: 'r1',
      generation: 1,
    });

    const pixels = new Uint8Array(20 * 224 * 224 * 3).map((_, i) => i);
    coordinator.send(workerId, batch, batchPayload({ labels: new Int32Array(20).fill(3), pixels }));
    const { message } = await next(worker.events, isOrder('batch'));
    const read = readBatchPayload(message);
    expect(Buffer.from(read.pixels).equals(Buffer.from(pixels))).toBe(true);
    expect(worker.recentHeaders().at(-1)).toMatch(/ms ago in batch step 1 .*kind train/);
  });

  test('part with a bye, and nobody is reported lost', async () => {
    const coordinator = await bench.coordinator();
    const { worker, workerId } = await bench.joined(coordinator);
    coordinator.send(workerId, { type: 'stop', step: 9, reason: 'done', exitCode: 0 });
    await next(worker.events, isOrder('stop'));
    worker.send({ type: 'bye', step: 9 });
    worker.close();
    await next(coordinator.events, isMessage('bye'));
    await sleep(300);
    coordinator.close();
    for await (const event of coordinator.events) expect(event.kind).not.toBe('lost');
  });

  test('hear last words: a refusal sent just before closing arrives', async () => {
    const coordinator = await bench.coordinator();
    const { worker, workerId } = await bench.joined(coordinator);
    coordinator.send(workerId, { type: 'refuse', step: 0, exitCode: 4, message: 'tower 0 is taken' });
    coordinator.close();
    expect((await next(worker.events, isOrder('refuse'))).message.header).toMatchObject({ message: 'tower 0 is taken' });
  });

  test('of different protocol versions refuse each other, naming both', async () => {
    const coordinator = await bench.coordinator();
    const worker = new Dealer({ linger: 0, routingId: `worker-${'0'.repeat(32)}` });
    bench.onClose(() => {
      worker.close();
    });
    worker.connect(coordinator.address);
    await worker.send(encodeHeader({ ...hello, version: protocolVersion + 1, run: '', generation: 0, news: true }));
    const [answer] = await worker.receive();
    expect(decodeHeader(answer ?? new Uint8Array(), toWorkerSchema)).toMatchObject({ type: 'refuse', exitCode: 4 });
    expect(bench.lines).toEqual([expect.stringMatching(otherVersion)]);
  });
});

describe('generations', () => {
  test('what was sent under an earlier one is dropped and counted; hello is always heard', async () => {
    const coordinator = await bench.coordinator({ generation: 4 });
    const { worker, workerId } = await bench.joined(coordinator);
    coordinator.startGeneration(5);
    worker.send({ type: 'credit', step: 0, count: 1 });
    worker.send(hello);
    await next(coordinator.events, (event): event is typeof event => {
      expect(event.kind === 'message' && event.message.header.type).toBe('hello');
      return true;
    });
    expect(coordinator.dropped).toEqual({ stale: 1, malformed: 0, foreign: 0 });

    coordinator.send(workerId, assign);
    await next(worker.events, isOrder('assign'));
    worker.send({ type: 'credit', step: 0, count: 1 });
    await next(coordinator.events, isMessage('credit'));
  });

  test('only rise', async () => {
    const coordinator = await bench.coordinator({ generation: 4 });
    expect(() => {
      coordinator.startGeneration(4);
    }).toThrow(/generation 4 after 4/);
  });

  test('a worker drops orders that do not belong to what it was assigned', async () => {
    const coordinator = await bench.coordinator();
    const worker = await bench.worker(coordinator.address);
    worker.send(hello);
    const { workerId } = await next(coordinator.events, isMessage('hello'));
    coordinator.send(workerId, { type: 'begin', step: 0 });
    coordinator.send(workerId, assign);
    const first = await next(worker.events, isKind('message'));
    expect(first.message.header.type).toBe('assign');
    expect(worker.dropped.stale).toBe(1);
  });
});

describe('a lost worker', () => {
  test('is reported within two seconds of its SIGKILL, and nobody else is', async () => {
    const coordinator = await bench.coordinator();
    await bench.joined(coordinator);
    const child = startWorker(coordinator.address);
    const { workerId } = await next(coordinator.events, isMessage('hello'));
    child.kill('SIGKILL');
    const start = performance.now();
    const lost = await next(coordinator.events, isKind('lost'));
    expect(performance.now() - start).toBeLessThan(2000);
    expect(lost.workerId).toBe(workerId);
    expect(lost.error).toBeInstanceOf(PeerLostError);
    await sleep(1000);
    coordinator.close();
    for await (const event of coordinator.events) expect(event.kind).not.toBe('lost');
  });

  test('is noticed by a message that cannot reach it, too', async () => {
    const coordinator = await bench.coordinator();
    coordinator.send(`worker-${'c'.repeat(32)}`, { type: 'begin', step: 0 });
    const { worker, workerId } = await bench.joined(coordinator);
    worker.close(0);
    await sleep(50);
    coordinator.send(workerId, { type: 'begin', step: 0 });
    const lost = await next(coordinator.events, isKind('lost'));
    expect(lost.workerId).toBe(workerId);
  });

  test('is reported when it stands still for longer than the heartbeat allows', async () => {
    const coordinator = await bench.coordinator({ heartbeatTimeoutMs: 400 });
    const child = startWorker(coordinator.address);
    await next(coordinator.events, isMessage('hello'));
    child.kill('SIGSTOP');
    await next(coordinator.events, isKind('lost'));
  });
});

//   worker                    coordinator
//     <------------------- release
//     (another connection)
//     hello ------------------->
describe('a worker that was given up', () => {
  test('is told why, and comes back under another id; what it still sends under the old one is dropped', async () => {
    const coordinator = await bench.coordinator();
    const { worker, workerId } = await bench.joined(coordinator);
    coordinator.release(workerId, 'it did not answer');
    worker.send({ type: 'credit', step: 0, count: 1 });
    const { reason } = await next(worker.events, isKind('disconnected'));
    expect(reason).toBe('the coordinator gave this worker up: it did not answer');
    await next(worker.events, isKind('reconnected'));
    worker.send(hello);
    expect((await next(coordinator.events, isMessage('hello'))).workerId).not.toBe(workerId);
    expect(coordinator.dropped).toEqual({ stale: 0, malformed: 0, foreign: 1 });
  });

  test('gives up a connection on which an assigned run was damaged by itself', async () => {
    const coordinator = new Router({ linger: 0 });
    bench.onClose(() => {
      coordinator.close();
    });
    await coordinator.bind('tcp://127.0.0.1:0');
    const worker = await bench.worker(coordinator.lastEndpoint ?? '');
    worker.send(hello);
    const [id] = await coordinator.receive();
    const session = { run: 'r1', generation: 1 };
    await coordinator.send([id ?? '', ...encodeMessage({ ...session, ...assign })]);
    const [header] = encodeMessage({ ...session, ...batch }, [Buffer.of(6)]);
    await coordinator.send([id ?? '', header ?? '', Buffer.of(7)]);
    expect((await next(worker.events, isKind('disconnected'))).reason).toMatch(/damaged on its way .*batch step 1/);
    await next(worker.events, isKind('reconnected'));
    worker.send(hello);
    const [newId] = await coordinator.receive();
    expect(newId).not.toEqual(id);
  });
});

describe('a lost coordinator', () => {
  test('is waited for, found again at the same address, and greeted anew', async () => {
    const first = await bench.coordinator();
    const { worker } = await bench.joined(first);
    const { address } = first;
    first.close();
    await next(worker.events, isKind('disconnected'));
    worker.send({ type: 'credit', step: 0, count: 1 });
    expect(worker.dropped.unsent).toBe(1);

    const second = await bench.coordinator({ address, generation: 2 });
    await next(worker.events, isKind('reconnected'));
    worker.send(hello);
    const { workerId } = await next(second.events, isMessage('hello'));
    second.send(workerId, assign);
    await next(worker.events, isOrder('assign'));
    expect(worker.session.generation).toBe(2);
  });

  test('is given up after the join timeout', async () => {
    const coordinator = await bench.coordinator();
    const worker = await bench.worker(coordinator.address, { joinTimeoutMs: 300 });
    coordinator.close();
    const { error } = await next(worker.events, isKind('lost'));
    expect(error).toBeInstanceOf(PeerLostError);
    expect(error.message).toContain(coordinator.address);
  });

  test('that was never there is named, and so is something else that listens in its place', async () => {
    const address = 'tcp://127.0.0.1:9';
    await expect(WorkerSocket.connect({ address, joinTimeoutMs: 200 })).rejects.toThrow(/no coordinator at tcp:\/\/127.0.0.1:9/);
    const web = createServer((raw) => raw.on('error', () => undefined).end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    await new Promise<void>((resolve) => web.listen(0, '127.0.0.1', resolve));
    bench.onClose(() => web.close());
    const bound = web.address();
    if (bound === null || typeof bound === 'string') throw new Error('no port');
    await expect(WorkerSocket.connect({ address: `tcp://127.0.0.1:${String(bound.port)}`, joinTimeoutMs: 300 })).rejects.toThrow(
      /does not speak our language/,
    );
  });

  test.each([
    ['makes no sense', [Buffer.from('hello')], PeerLostError, /not plain data|behind its end/],
    ['speaks another version', [encodeHeader({ version: protocolVersion + 1, type: 'assign' })], RefusedError, otherVersion],
    [
      'sends a damaged payload',
      [encodeHeader({ version: protocolVersion, run: '', generation: 0, ...batch, payload: { bytes: 1, crc: 1 } }), Buffer.of(7)],
      PeerLostError,
      /damaged on its way .*batch step 1/,
    ],
  ])('is as good as lost when it %s', async (_, frames, kind, expected) => {
    const coordinator = new Router({ linger: 0 });
    bench.onClose(() => {
      coordinator.close();
    });
    await coordinator.bind('tcp://127.0.0.1:0');
    const worker = await bench.worker(coordinator.lastEndpoint ?? '');
    worker.send(hello);
    const [id] = await coordinator.receive();
    await coordinator.send([id ?? '', ...frames]);
    const { error } = await next(worker.events, isKind('lost'));
    expect(error).toBeInstanceOf(kind);
    expect(error.message).toMatch(expected);
  });

  test('is not waited for any longer when the signal says so', async () => {
    const stop = new AbortController();
    const joining = WorkerSocket.connect({ address: 'tcp://127.0.0.1:9', joinTimeoutMs: 60_000, signal: stop.signal });
    stop.abort();
    await expect(joining).rejects.toThrow(PeerLostError);
    await expect(
      WorkerSocket.connect({ address: 'tcp://127.0.0.1:9', joinTimeoutMs: 60_000, signal: stop.signal }),
    ).rejects.toThrow(PeerLostError);
  });
});

describe('an address', () => {
  test('in use is refused by name, and whoever has it keeps it: tcp and ipc', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'control-'));
    bench.onClose(() => {
      rmSync(folder, { recursive: true });
    });
    for (const wanted of ['tcp://127.0.0.1:0', `ipc://${folder}/control`]) {
      const first = await bench.coordinator({ address: wanted });
      const second = bench.coordinator({ address: first.address });
      await expect(second).rejects.toThrow(RefusedError);
      await expect(second).rejects.toThrow(first.address);
      await bench.joined(first);
    }
  });

  test('that was given up a moment ago can be taken again: tcp and ipc', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'control-'));
    bench.onClose(() => {
      rmSync(folder, { recursive: true });
    });
    for (const wanted of ['tcp://127.0.0.1:0', `ipc://${folder}/control`]) {
      const first = await bench.coordinator({ address: wanted });
      first.close();
      await bench.joined(await bench.coordinator({ address: first.address }));
    }
  });

  test('that a dead coordinator left behind can be taken over: ipc', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'control-'));
    const address = `ipc://${folder}/control`;
    bench.onClose(() => {
      rmSync(folder, { recursive: true });
    });
    const script = `import { Router } from 'zeromq'; const r = new Router(); await r.bind(process.argv[1]); process.kill(process.pid, 'SIGKILL');`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, address]);
    await new Promise((resolve) => child.once('exit', resolve));
    await bench.joined(await bench.coordinator({ address }));
  });

  test.each([
    'localhost:5555',
    'tcp://',
    'tcp://127.0.0.1',
    'tcp://127.0.0.1:99999',
    'http://127.0.0.1:80',
    'ipc://',
    `ipc:///tmp/${'x'.repeat(120)}`,
    'tcp://no-such-host.invalid:5555',
    'tcp://a b:1',
    '',
  ])('that makes no sense is a mistake of the user: %s', async (address) => {
    await expect(WorkerSocket.connect({ address, joinTimeoutMs: 1000 })).rejects.toThrow(UsageError);
    await expect(CoordinatorSocket.bind({ address, run: 'r', generation: 1, log: () => undefined })).rejects.toThrow(UsageError);
  });

  test('of another machine cannot be listened at', async () => {
    await expect(
      CoordinatorSocket.bind({ address: 'tcp://192.0.2.1:0', run: 'r', generation: 1, log: () => undefined }),
    ).rejects.toThrow(UsageError);
  });

  test('may be a name', async () => {
    const coordinator = await bench.coordinator({ address: 'tcp://localhost:0' });
    const { port } = new URL(coordinator.address.replace('tcp:', 'http:'));
    await bench.worker(`tcp://localhost:${port}`);
  });

  test('without a port to connect to is a mistake of the user', async () => {
    await expect(WorkerSocket.connect({ address: 'tcp://127.0.0.1:0', joinTimeoutMs: 1000 })).rejects.toThrow(UsageError);
  });
});

describe('strangers', () => {
  test('garbage, HTTP and idle connections are closed within the handshake time, while a worker goes on', async () => {
    const coordinator = await bench.coordinator({ handshakeMs: 500 });
    const { worker } = await bench.joined(coordinator);
    const idle = await Promise.all(Array.from({ length: 50 }, () => bench.raw(coordinator.address)));
    const http = await bench.raw(coordinator.address);
    http.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    const garbage = await bench.raw(coordinator.address);
    garbage.write(Buffer.alloc(100_000, 0xff));
    const start = performance.now();
    await Promise.all([...idle, http, garbage].map(closed));
    expect(performance.now() - start).toBeLessThan(3000);

    worker.send({ type: 'credit', step: 0, count: 1 });
    await next(coordinator.events, isMessage('credit'));
  });

  test('who speak ZeroMQ but no message of ours are counted, and logged once each', async () => {
    const coordinator = await bench.coordinator();
    const { worker } = await bench.joined(coordinator);
    const nameless = new Dealer({ linger: 0 });
    const named = new Dealer({ linger: 0, routingId: `worker-${'a'.repeat(32)}` });
    bench.onClose(() => {
      nameless.close();
      named.close();
    });
    nameless.connect(coordinator.address);
    named.connect(coordinator.address);
    for (let i = 0; i < 20; i++) {
      await nameless.send(['hello', 'world']);
      await named.send([Buffer.alloc(1000, 0xc1), '']);
    }
    worker.send({ type: 'credit', step: 0, count: 1 });
    await next(coordinator.events, isMessage('credit'));
    await expect.poll(() => coordinator.dropped).toEqual({ stale: 0, malformed: 20, foreign: 20 });
    expect(bench.lines.length).toBe(1);
  });

  test('who take the id of a worker that is there get nothing, and the worker goes on', async () => {
    const coordinator = await bench.coordinator();
    const { worker, workerId } = await bench.joined(coordinator);
    const thief = new Dealer({ linger: 0, routingId: workerId, receiveTimeout: 300 });
    bench.onClose(() => {
      thief.close();
    });
    thief.connect(coordinator.address);
    await thief.send('x');
    coordinator.send(workerId, { type: 'begin', step: 0 });
    await next(worker.events, isOrder('begin'));
    await expect(thief.receive()).rejects.toThrow();
  });

  test('who send 100 MB in one frame are cut off before memory is taken, while a worker goes on', async () => {
    const coordinator = await bench.coordinator();
    const { worker } = await bench.joined(coordinator);
    // Their memory is theirs: another process, so that this one's size is the coordinator's.
    const script = `import { Dealer, Router } from 'zeromq'; const d = new Dealer({ linger: 0, reconnectInterval: -1 }); d.connect(process.argv[1]);
      d.events.on('disconnect', () => { console.log('disconnected'); process.exit(0); }); await d.send(Buffer.alloc(100e6)); setTimeout(() => {}, 10000);`;
    const before = process.memoryUsage.rss();
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, coordinator.address]);
    bench.onClose(() => child.kill('SIGKILL'));
    const output: string[] = [];
    child.stdout.on('data', (chunk) => output.push(String(chunk)));
    await new Promise((resolve) => child.once('exit', resolve));
    expect(output.join('')).toContain('disconnected');
    expect(process.memoryUsage.rss() - before).toBeLessThan(50e6);

    worker.send({ type: 'credit', step: 0, count: 1 });
    await next(coordinator.events, isMessage('credit'));
  });

  test('a worker that starts to speak nonsense is told, reported lost, and not listened to any more', async () => {
    const coordinator = await bench.coordinator();
    const worker = new Dealer({ linger: 0, routingId: `worker-${'b'.repeat(32)}` });
    bench.onClose(() => {
      worker.close();
    });
    worker.connect(coordinator.address);
    const frames = encodeMessage({ run: '', generation: 0, ...hello });
    await worker.send(frames);
    await next(coordinator.events, isMessage('hello'));
    await worker.send([...frames, 'a frame that no header speaks of']);
    const lost = await next(coordinator.events, isKind('lost'));
    expect(lost.error.message).toMatch(/payload of 32 bytes instead of 0/);
    expect((await worker.receive()).length).toBe(1);
    await worker.send(encodeMessage({ run: 'r1', generation: 1, type: 'credit', step: 0, count: 1 }));
    await expect.poll(() => coordinator.dropped.foreign).toBe(1);
  });
});
