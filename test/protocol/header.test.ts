// Headers: what is sent is what is read, and whatever else arrives ends in a ProtocolError, quickly.

import fc from 'fast-check';
import { pack } from 'msgpackr';
import { describe, expect, test } from 'vitest';
import { decodeHeader, encodeHeader, maxHeaderBytes } from '../../src/protocol/header.ts';
import { protocolVersion, toCoordinatorSchema, toWorkerSchema } from '../../src/protocol/messages.ts';
import type { ToCoordinator } from '../../src/protocol/messages.ts';
import { ProtocolError, VersionMismatchError } from '../../src/protocol/protocolError.ts';
import { parseRunConfig } from '../../src/spec/config.ts';
import { PeerLostError } from '../../src/spec/errors.ts';
import { hostileHeaders, withRecords } from './hostileHeaders.ts';

const envelope = { version: protocolVersion, run: 'r1', generation: 3, step: 12 } as const;
const credit = { ...envelope, type: 'credit', count: 2 } as const;

/** A hostile header may not hold up the coordinator for longer than this. */
const patienceMs = 50;

/** The fastest of three counts: what the header costs, and not what else the machine does. */
function expectRefused(bytes: Uint8Array): void {
  let fastestMs = Infinity;
  for (let attempt = 0; attempt < 3 && fastestMs >= patienceMs; attempt++) {
    const start = performance.now();
    expect(() => decodeHeader(bytes, toCoordinatorSchema)).toThrow(ProtocolError);
    fastestMs = Math.min(fastestMs, performance.now() - start);
  }
  expect(fastestMs).toBeLessThan(patienceMs);
}

describe('a header', () => {
  test('arrives as it was sent, with a loss that is not a number', () => {
    const headers: ToCoordinator[] = [
      credit,
      { ...envelope, type: 'gradients', tower: 1, loss: NaN, squaredNorm: Infinity, finite: false, top1: 0, ms: 812.25 },
      {
        ...envelope,
        type: 'hello',
        packageVersion: '0.1.0',
        host: 'höst',
        pid: 70_000,
        device: 'x'.repeat(300),
        tower: 'auto',
        replica: 'auto',
      },
      {
        ...envelope,
        type: 'stepDone',
        tower: 0,
        bytesSent: 2 ** 40,
        liveTensors: 100,
        bytesSummed: 0,
        ms: { dataWait: 0, compute: 1, exchangeWait: 2, sync: 3, update: 4 },
      },
    ];
    for (const header of headers) expect(decodeHeader(encodeHeader(header), toCoordinatorSchema)).toEqual(header);
  });

  test('carries a whole run config; fields that are undefined stay behind', () => {
    const config = parseRunConfig(
      { seed: Number.MAX_SAFE_INTEGER, lrScheduler: 'step', lrSteps: [30, 60.5], mean: [1, 2, 3] },
      'test',
    );
    const assign = {
      ...envelope,
      type: 'assign',
      tower: 0,
      replica: 0,
      config: { ...config, steps: undefined },
      classes: 10,
      picture: { height: 28, width: 28, channels: 1 },
      mean: [33.3],
      deviation: [78.5],
      sentBlocks: 0,
      links: [
        { role: 'listen', tower: 0, neighbour: 'tower', address: 'tcp://127.0.0.1:0', token: 'a-token-of-16-characters' },
        { role: 'connect', tower: 0, neighbour: 'replica', token: 'a-token-of-16-characters' },
      ],
    };
    expect(decodeHeader(encodeHeader(assign), toWorkerSchema)).toEqual({ ...assign, config });
  });

  test('of another protocol version is told apart from nonsense, with both numbers', () => {
    const theirs = encodeHeader({ ...credit, version: protocolVersion + 1, unknown: true });
    expect(() => decodeHeader(theirs, toCoordinatorSchema)).toThrow(VersionMismatchError);
    expect(() => decodeHeader(theirs, toCoordinatorSchema)).toThrow(
      `protocol ${String(protocolVersion + 1)}, this one ${String(protocolVersion)}`,
    );
  });

  test('beyond 64 KiB is not sent', () => {
    expect(() => encodeHeader({ ...credit, text: 'x'.repeat(maxHeaderBytes) })).toThrow(/at most 65536/);
  });

  test('that is nonsense costs a lost peer (exit 3)', () => {
    expect(new ProtocolError('x')).toBeInstanceOf(PeerLostError);
    expect(new ProtocolError('x').exitCode).toBe(3);
  });
});

describe('a hostile header', () => {
  const good = encodeHeader(credit);

  test.each(Object.entries(hostileHeaders))('is refused within 50 ms: %s', (_, bytes) => {
    expectRefused(bytes);
  });

  test('leaves no trace in the errors that a log line could stumble over', () => {
    const hostile = pack({ ...credit, [`\u001b[2J${'x'.repeat(5000)}\n`]: 1 });
    let message = '';
    try {
      decodeHeader(hostile, toCoordinatorSchema);
    } catch (error) {
      message = (error as Error).message;
    }
    expect(message.length).toBeLessThan(300);
    expect(message).toMatch(/^[\x20-\x7e]+$/);
  });

  test('leaves no trace in the next one', () => {
    for (const bytes of Object.values(hostileHeaders)) expectRefused(bytes);
    expect(decodeHeader(good, toCoordinatorSchema)).toEqual(credit);
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });

  test('of random bytes is refused', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 2000 }), expectRefused), { numRuns: 2000 });
  });

  test('of random data is refused', () => {
    const data = fc.anything({ withDate: true, withMap: true, withSet: true, withTypedArray: true, withNullPrototype: true });
    fc.assert(
      fc.property(data, (value) => {
        expectRefused(withRecords.pack(value));
        expectRefused(pack({ ...envelope, type: 'hello', device: value }));
      }),
      { numRuns: 1000 },
    );
  });

  test('with a few bytes changed is read as something valid or refused', () => {
    const edits = fc.array(fc.tuple(fc.nat({ max: good.length - 1 }), fc.nat({ max: 255 })), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(edits, (changes) => {
        const bytes = Uint8Array.from(good);
        for (const [position, value] of changes) bytes[position] = value;
        try {
          expect(decodeHeader(bytes, toCoordinatorSchema).type).toBeTypeOf('string');
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolError);
        }
      }),
      { numRuns: 3000 },
    );
  });
});
