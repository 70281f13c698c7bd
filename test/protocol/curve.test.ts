// CURVE on loopback: who gets in, who does not and how both sides learn of it, and that nobody takes another's place.

import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import fc from 'fast-check';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { Dealer, curveKeyPair } from 'zeromq';
import type { CoordinatorSocket } from '../../src/protocol/coordinatorSocket.ts';
import { fingerprintOf, isKey, isSameProof, keysOf, proofOf, z85Decode, z85Encode } from '../../src/protocol/curveKeys.ts';
import type { ConnectorCurve, CurveKeys } from '../../src/protocol/curveKeys.ts';
import { encodeMessage } from '../../src/protocol/frames.ts';
import { decodeHeader } from '../../src/protocol/header.ts';
import { KeyCheck, connectorCurveOptions } from '../../src/protocol/keyCheck.ts';
import { toWorkerSchema } from '../../src/protocol/messages.ts';
import { newKeys, newLinkCurves } from '../../src/protocol/newKeys.ts';
import { batchPayload, readBatchPayload } from '../../src/protocol/payloads.ts';
import { WorkerSocket } from '../../src/protocol/workerSocket.ts';
import { ZeromqExchange } from '../../src/protocol/zeromqExchange.ts';
import { RefusedError } from '../../src/spec/errors.ts';
import { Bench, assign, closed, hello, isMessage, isOrder, next } from './sockets.ts';

const bench = new Bench();
afterEach(() => {
  bench.close();
  vi.restoreAllMocks();
});

const ours = newKeys();
const first = newKeys();
const second = newKeys();
const stranger = newKeys();
const curve = {
  keys: ours,
  allowed: [
    { publicKey: first.publicKey, name: 'first', tower: 0 },
    { publicKey: second.publicKey, name: 'second' },
  ],
} as const;

function as(keys: CurveKeys, serverKey = ours.publicKey): ConnectorCurve {
  return { keys, serverKey };
}

/** How soon whoever is refused must know. */
const soonMs = 10_000;

async function refusalOf(address: string, connector?: ConnectorCurve): Promise<Error> {
  const start = performance.now();
  const joining = WorkerSocket.connect({ address, joinTimeoutMs: 60_000, curve: connector });
  const refusal = await joining.then(
    (worker) => {
      worker.close();
      throw new Error('was let in');
    },
    (error: unknown) => error as Error,
  );
  expect(performance.now() - start).toBeLessThan(soonMs);
  expect(refusal).toBeInstanceOf(RefusedError);
  return refusal;
}

describe('a key', () => {
  test("is libzmq's: the public half follows from the secret one, and Z85 goes both ways", () => {
    for (let i = 0; i < 20; i++) {
      const pair = curveKeyPair();
      expect(keysOf(pair.secretKey)).toEqual(pair);
    }
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (bytes) => {
        expect(z85Decode(z85Encode(Buffer.from(bytes)))).toEqual(Buffer.from(bytes));
      }),
    );
  });

  test.each(['', 'x'.repeat(39), 'x'.repeat(41), `${'x'.repeat(39)}"`, '#'.repeat(40), ' '.repeat(40)])(
    'is 40 characters of Z85 for 32 bytes, not %j',
    (text) => {
      expect(isKey(text)).toBe(false);
      expect(keysOf(text)).toBeUndefined();
    },
  );

  test('has a fingerprint that tells keys apart and is the same for both forms', () => {
    expect(fingerprintOf(ours.publicKey)).toMatch(/^sha256:[0-9a-f]{16}$/);
    expect(fingerprintOf(z85Decode(ours.publicKey)!)).toBe(fingerprintOf(ours.publicKey));
    expect(fingerprintOf(first.publicKey)).not.toBe(fingerprintOf(ours.publicKey));
  });

  test('is proved to the holder of another, for one id', () => {
    const proof = proofOf(first, ours.publicKey, 'worker-1');
    expect(proof).toMatch(/^[0-9a-f]{64}$/);
    expect(isSameProof(proof, proofOf(ours, first.publicKey, 'worker-1'))).toBe(true);
    expect(isSameProof(proof, proofOf(ours, first.publicKey, 'worker-2'))).toBe(false);
    expect(isSameProof(proof, proofOf(second, ours.publicKey, 'worker-1'))).toBe(false);
    expect(isSameProof(proof, '')).toBe(false);
  });
});

describe('a coordinator with keys', () => {
  test('lets in whom it knows, says who came, and takes megabytes', async () => {
    const coordinator = await bench.coordinator({ curve });
    const { worker, workerId } = await bench.joined(coordinator, as(second));
    expect(bench.lines).toEqual(['a worker came with the key second']);
    const pixels = new Uint8Array(20 * 224 * 224 * 3).map((_, i) => i);
    const batch = { kind: 'train', step: 1, epoch: 0, index: 0, count: 20, height: 224, width: 224, channels: 3 } as const;
    const payload = batchPayload({ labels: new Int32Array(20), pixels });
    coordinator.send(workerId, { type: 'batch', ...batch, hasColour: false }, payload);
    const { message } = await next(worker.events, isOrder('batch'));
    expect(Buffer.from(readBatchPayload(message).pixels).equals(Buffer.from(pixels))).toBe(true);
  });

  //                         the worker's side says                                the coordinator's log says
  test.each([
    ['another key than the allowed ones', as(stranger), /does not know the key KEY/, /its key KEY is not among/, stranger],
    ["another coordinator's key", as(first, stranger.publicKey), /does not hold the key KEY/, /whose key is OURS$/, stranger],
    ['no key', undefined, /lets nobody in without a key/, /does not encrypt, .* with the key OURS$/, stranger],
  ])('refuses a worker with %s within ten seconds, and goes on', async (_, connector, theirs, logged, key) => {
    const coordinator = await bench.coordinator({ curve });
    const filled = (pattern: RegExp): RegExp =>
      new RegExp(pattern.source.replace('KEY', fingerprintOf(key.publicKey)).replace('OURS', fingerprintOf(ours.publicKey)));
    expect((await refusalOf(coordinator.address, connector)).message).toMatch(filled(theirs));
    await expect.poll(() => bench.lines).toContainEqual(expect.stringMatching(filled(logged)));
    // A line in five seconds of each kind, for six seconds of trying at most.
    expect(bench.lines.length).toBeLessThanOrEqual(4);
    await bench.joined(coordinator, as(first));
  });

  test('is not joined by a worker with keys if it has none itself', async () => {
    const coordinator = await bench.coordinator();
    const { message } = await refusalOf(coordinator.address, as(first));
    expect(message).toMatch(/does not encrypt/);
    expect(message).toContain(fingerprintOf(first.publicKey));
    await bench.joined(coordinator);
  });

  test('closes garbage, HTTP, old ZeroMQ and idle connections within the handshake time', async () => {
    const coordinator = await bench.coordinator({ curve, handshakeMs: 500 });
    const { worker } = await bench.joined(coordinator, as(first));
    const visitors = await Promise.all(
      ['', 'GET / HTTP/1.1\r\nHost: x\r\n\r\n', '\u00ff'.repeat(100_000), '\u0001\u0000'].map(async (text) => {
        const raw = await bench.raw(coordinator.address);
        raw.write(Buffer.from(text, 'latin1'));
        return raw;
      }),
    );
    const start = performance.now();
    await Promise.all(visitors.map(closed));
    expect(performance.now() - start).toBeLessThan(3000);
    worker.send({ type: 'credit', step: 0, count: 1 });
    await next(coordinator.events, isMessage('credit'));
  });

  test('shows nothing to whoever listens on the way, which without keys is an open book', async () => {
    const device = 'a device that only the two should know of';
    const overheard = async (coordinator: CoordinatorSocket, connector?: ConnectorCurve): Promise<string> => {
      const tap = await tapped(coordinator.address);
      const worker = await bench.worker(tap.address, { curve: connector });
      worker.send({ ...hello, device });
      const { workerId } = await next(coordinator.events, isMessage('hello'));
      coordinator.send(workerId, assign);
      await next(worker.events, isOrder('assign'));
      return tap.heard();
    };
    expect(await overheard(await bench.coordinator())).toContain(device);
    const encrypted = await overheard(await bench.coordinator({ curve }), as(first));
    expect(encrypted).toContain('CURVE');
    for (const secret of [device, assign.peerToken, 'fashion-mnist', 'worker-']) expect(encrypted).not.toContain(secret);
  });
});

describe('a check of keys that is missing', () => {
  test('lets nobody in, and the coordinator says so', async () => {
    vi.spyOn(KeyCheck.prototype, 'start').mockResolvedValue();
    const coordinator = await bench.coordinator({ curve, handshakeMs: 500 });
    const joining = WorkerSocket.connect({ address: coordinator.address, joinTimeoutMs: 1500, curve: as(first) });
    await expect(joining).rejects.toThrow(coordinator.address);
    expect(bench.lines[0]).toMatch(/^keys cannot be checked any more, so nobody is let in/);
  });

  test('or that dies lets nobody in either, and leaves whoever is in alone', async () => {
    const coordinator = await bench.coordinator({ curve, handshakeMs: 500 });
    const start = vi.spyOn(KeyCheck.prototype, 'start');
    const mortal = await bench.coordinator({ curve, handshakeMs: 500 });
    const { worker } = await bench.joined(mortal, as(first));
    (start.mock.contexts[0] as KeyCheck).close();
    const joining = WorkerSocket.connect({ address: mortal.address, joinTimeoutMs: 1500, curve: as(second) });
    await expect(joining).rejects.toThrow(mortal.address);
    expect(bench.lines).toContainEqual(expect.stringMatching(/^keys cannot be checked/));
    worker.send({ type: 'credit', step: 0, count: 1 });
    await next(mortal.events, isMessage('credit'));
    // Another socket's check is its own.
    await bench.joined(coordinator, as(second));
  });

  test('or cannot be set up is an error before anything listens', async () => {
    const check = new KeyCheck(curve);
    await check.start();
    await expect(check.start()).rejects.toBeInstanceOf(RefusedError);
    vi.spyOn(KeyCheck.prototype, 'start').mockRejectedValue(new RefusedError('no check'));
    await expect(bench.coordinator({ curve })).rejects.toThrow('no check');
    await expect(ZeromqExchange.bind({ ...link, curve: newLinkCurves()[0] })).rejects.toThrow('no check');
  });

  test('fails the link between towers at once, at its listening end', async () => {
    vi.spyOn(KeyCheck.prototype, 'start').mockResolvedValue();
    const [curve0, curve1] = newLinkCurves();
    const zero = await bind({ curve: curve0 });
    await connectTo(zero.address, { curve: curve1 });
    await expect(zero.ready).rejects.toThrow(/keys cannot be checked/);
  });
});

describe('a worker that is let in', () => {
  /** Speaks under a key of ours, but says what it likes. */
  function liar(coordinator: CoordinatorSocket, keys: CurveKeys, workerId = `worker-${'e'.repeat(32)}`): Dealer {
    const options = connectorCurveOptions(keys, ours.publicKey);
    const dealer = new Dealer({ linger: 0, ...options, routingId: workerId, receiveTimeout: 1000 });
    bench.onClose(() => {
      dealer.close();
    });
    dealer.connect(coordinator.address);
    return dealer;
  }

  const mine = `worker-${'e'.repeat(32)}`;
  const others = `worker-${'f'.repeat(32)}`;
  test.each([
    ['without a proof', undefined],
    ["with another's key and its own proof", { publicKey: first.publicKey, mac: proofOf(second, ours.publicKey, mine) }],
    ["with another's proof, for another id", { publicKey: first.publicKey, mac: proofOf(first, ours.publicKey, others) }],
    ['with a proof that it made up', { publicKey: first.publicKey, mac: '0'.repeat(64) }],
    ['with a key that is not allowed', { publicKey: stranger.publicKey, mac: proofOf(stranger, ours.publicKey, mine) }],
    ['with a key that is none', { publicKey: 'x'.repeat(40), mac: '0'.repeat(64) }],
  ])('and says hello %s is refused', async (_, proof) => {
    const coordinator = await bench.coordinator({ curve });
    const dealer = liar(coordinator, second);
    await dealer.send(encodeMessage({ run: '', generation: 0, ...hello, proof }));
    const [answer] = await dealer.receive();
    expect(decodeHeader(answer!, toWorkerSchema)).toMatchObject({ type: 'refuse', exitCode: 4 });
    expect(coordinator.dropped.malformed).toBe(1);
    await dealer.send(encodeMessage({ run: 'r1', generation: 1, type: 'credit', step: 0, count: 1 }));
    await expect.poll(() => coordinator.dropped.foreign).toBe(1);
  });

  test('gets the tower that its key is for, and no other', async () => {
    const coordinator = await bench.coordinator({ curve });
    const worker = await bench.worker(coordinator.address, { curve: as(first) });
    worker.send(hello);
    const { message } = await next(coordinator.events, isMessage('hello'));
    expect(message.header.tower).toBe(0);
    for (const tower of [1, 'both'] as const) {
      const greedy = await bench.worker(coordinator.address, { curve: as(first) });
      greedy.send({ ...hello, tower });
      const { header } = (await next(greedy.events, isOrder('refuse'))).message;
      expect(header).toMatchObject({
        exitCode: 4,
        message: expect.stringMatching(/^the key first .* is for tower 0/) as unknown,
      });
    }
  });

  test('cannot take the id of another one that is there', async () => {
    const coordinator = await bench.coordinator({ curve });
    const { worker, workerId } = await bench.joined(coordinator, as(first));
    const thief = liar(coordinator, second, workerId);
    await thief.send(encodeMessage({ run: 'r1', generation: 1, type: 'credit', step: 0, count: 1 }));
    coordinator.send(workerId, { type: 'begin', step: 0 });
    await next(worker.events, isOrder('begin'));
    await expect(thief.receive()).rejects.toThrow();
    expect(coordinator.dropped).toEqual({ stale: 0, malformed: 0, foreign: 0 });
  });

  test('is handed keys for the link that no dump of its messages shows', async () => {
    const coordinator = await bench.coordinator({ curve });
    const worker = await bench.worker(coordinator.address, { curve: as(first) });
    worker.send(hello);
    const { workerId } = await next(coordinator.events, isMessage('hello'));
    const [end] = newLinkCurves();
    coordinator.send(workerId, { ...assign, link: { role: 'bind', address: 'tcp://127.0.0.1:0', curve: end } });
    const { message } = await next(worker.events, isOrder('assign'));
    expect(message.header.link).toEqual({ role: 'bind', address: 'tcp://127.0.0.1:0', curve: end });
    const dumps = [...coordinator.recentHeaders(), ...worker.recentHeaders()].join('\n');
    expect(dumps).toContain('assign');
    for (const secret of [end.secretKey, assign.peerToken, first.secretKey]) expect(dumps).not.toContain(secret);
  });
});

const link = { address: 'tcp://127.0.0.1:0', run: 'r1', generation: 2, token: 'a-token-of-16-characters', joinTimeoutMs: 20_000 };

async function bind(changes: Partial<Parameters<typeof ZeromqExchange.bind>[0]>): Promise<ZeromqExchange> {
  const zero = await ZeromqExchange.bind({ ...link, ...changes });
  bench.onClose(() => {
    zero.close();
  });
  return zero;
}

async function connectTo(address: string, changes: Partial<Parameters<typeof ZeromqExchange.bind>[0]>): Promise<ZeromqExchange> {
  const one = await ZeromqExchange.connect({ ...link, ...changes, address });
  bench.onClose(() => {
    one.close();
  });
  return one;
}

describe('a link between towers under CURVE', () => {
  const [curve0, curve1] = newLinkCurves();
  const [strange0, strange1] = newLinkCurves();

  test.each([
    ['another key', { ...curve0 }, { ...strange1, peerKey: curve0.publicKey }, /does not know the key/],
    ['another key in mind for tower 0', { ...curve0 }, { ...curve1, peerKey: strange0.publicKey }, /breaks off every handshake/],
    ['no key', { ...curve0 }, undefined, /without a key/],
    ['a key, and tower 0 has none', undefined, { ...curve1 }, /does not encrypt/],
  ])('refuses a tower 1 with %s although it knows the token, and stays open', async (_, zeroCurve, oneCurve, says) => {
    const zero = await bind({ curve: zeroCurve });
    const start = performance.now();
    const impostor = await connectTo(zero.address, { curve: oneCurve, times: { brokenOffMs: 500 } });
    await expect(impostor.ready).rejects.toThrow(says);
    await expect(impostor.ready).rejects.toBeInstanceOf(RefusedError);
    expect(performance.now() - start).toBeLessThan(soonMs);
    const one = await connectTo(zero.address, { curve: zeroCurve === undefined ? undefined : curve1 });
    await Promise.all([zero.ready, one.ready]);
  });

  test('that nobody with the right key joins says which key was turned away', async () => {
    const zero = await bind({ curve: curve0, joinTimeoutMs: 700 });
    await connectTo(zero.address, { curve: { ...strange1, peerKey: curve0.publicKey } });
    await expect(zero.ready).rejects.toThrow(fingerprintOf(strange1.publicKey));
  });
});

/** A proxy that writes down all that passes, as latin1. */
async function tapped(address: string): Promise<{ address: string; heard: () => string }> {
  const { port } = new URL(address.replace('tcp:', 'http:'));
  const chunks: Buffer[] = [];
  const proxy = createServer((inner) => {
    const outer = connect({ host: '127.0.0.1', port: Number(port) });
    for (const [from, to] of [
      [inner, outer],
      [outer, inner],
    ] as const) {
      from.on('error', () => undefined).on('data', (chunk) => chunks.push(chunk));
      from.pipe(to);
    }
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  bench.onClose(() => proxy.close());
  const { port: ownPort } = proxy.address() as AddressInfo;
  return { address: `tcp://127.0.0.1:${String(ownPort)}`, heard: () => Buffer.concat(chunks).toString('latin1') };
}
