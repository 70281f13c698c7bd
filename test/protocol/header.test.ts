// Headers: what is sent is what is read, and whatever else arrives ends in a ProtocolError, quickly.

import fc from 'fast-check';
import { pack, Packr } from 'msgpackr';
import { describe, expect, test } from 'vitest';
import { decodeHeader, encodeHeader, maxHeaderBytes } from '../../src/protocol/header.ts';
import { protocolVersion, toCoordinatorSchema, toWorkerSchema } from '../../src/protocol/messages.ts';
import type { ToCoordinator } from '../../src/protocol/messages.ts';
import { ProtocolError, VersionMismatchError } from '../../src/protocol/protocolError.ts';
import { parseRunConfig } from '../../src/spec/config.ts';
import { PeerLostError } from '../../src/spec/errors.ts';

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
  const withRecords = new Packr({ useRecords: true, structuredClone: true, moreTypes: true });
  const extension = (type: number, data: Uint8Array): Uint8Array =>
    Buffer.concat([Buffer.from([0xc8, data.length >> 8, data.length & 0xff, type]), data]);

  const corpus: Record<string, Uint8Array> = {
    'no bytes': new Uint8Array(0),
    'a stray byte behind the end': Buffer.concat([good, Buffer.from([0])]),
    'a second header behind the first': Buffer.concat([good, good]),
    'a stray byte behind a large value': Buffer.concat([
      pack(Array.from({ length: 4000 }, (_, i) => `value ${String(i)}`)),
      Buffer.from([0]),
    ]),
    'a truncated header': good.subarray(0, good.length - 1),
    'a record': withRecords.pack(credit),
    'records in a list': withRecords.pack([credit, credit, { ...credit, count: 1 }]),
    'a RegExp': withRecords.pack({ ...credit, count: /(a+)+$/ }),
    'a Set': withRecords.pack({ ...credit, count: new Set([1]) }),
    'an Error': withRecords.pack({ ...credit, count: new RangeError('x') }),
    'a cycle': (() => {
      const cycle: Record<string, unknown> = { ...credit };
      cycle['count'] = cycle;
      return withRecords.pack(cycle);
    })(),
    'a typed array': withRecords.pack({ ...credit, count: new Float64Array(1000) }),
    'a date': pack({ ...credit, count: new Date(0) }),
    'a big integer of 60 KB': extension(0x42, new Uint8Array(60_000).fill(0x7f)),
    'bundled strings': extension(0x62, new Uint8Array(1000).fill(0xff)),
    'binary data': pack({ ...credit, count: new Uint8Array(10) }),
    __proto__: Buffer.from([
      0x81,
      0xa9,
      ...Buffer.from('__proto__'),
      0x81,
      0xa4,
      ...Buffer.from('type'),
      0xa3,
      ...Buffer.from('bye'),
    ]),
    'a constructor': pack({ ...credit, constructor: { prototype: { polluted: true } } }),
    'lists 60,000 deep': new Uint8Array(60_000).fill(0x91),
    'maps 30,000 deep': new Uint8Array(60_000).map((_, i) => (i % 2 === 0 ? 0x81 : 0x01)),
    'a list of 4 billion': Buffer.from([0xdd, 0xff, 0xff, 0xff, 0xff]),
    'a map of 4 billion': Buffer.from([0xdf, 0xff, 0xff, 0xff, 0xff]),
    'a string of 4 GB': Buffer.from([0xdb, 0xff, 0xff, 0xff, 0xff, 0x61]),
    'a list of 60,000 numbers': pack(new Array<number>(60_000).fill(1)),
    'a map of 2,000 unknown fields': pack(Object.fromEntries(Array.from({ length: 2000 }, (_, i) => [`field${String(i)}`, i]))),
    'a field of 60,000 bytes': pack({ ...credit, ['x'.repeat(60_000)]: 1 }),
    'a shape of 2,000 dimensions': pack({ ...credit, shape: new Array<string>(2000).fill('x') }),
    '1 MiB of zeros': new Uint8Array(1 << 20),
    HTTP: Buffer.from('GET / HTTP/1.1\r\n\r\n'),
    'an unsafe integer': pack({ ...credit, step: 2n ** 63n }),
    'a negative step': pack({ ...credit, step: -1 }),
    'half a step': pack({ ...credit, step: 0.5 }),
    'an unknown type': pack({ ...credit, type: 'toString' }),
    'an unknown field': pack({ ...credit, admin: true }),
    'a missing field': pack({ ...envelope, type: 'credit' }),
    'a list': pack([credit]),
    nothing: pack(null),
  };

  test.each(Object.entries(corpus))('is refused within 50 ms: %s', (_, bytes) => {
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
    for (const bytes of Object.values(corpus)) expectRefused(bytes);
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
