// Headers that somebody made to do harm, for every place where headers are read.

import { pack, Packr } from 'msgpackr';
import { encodeHeader } from '../../src/protocol/header.ts';
import { protocolVersion } from '../../src/protocol/messages.ts';

const envelope = { version: protocolVersion, run: 'r1', generation: 3, step: 12 } as const;
const credit = { ...envelope, type: 'credit', count: 2 } as const;
const good = encodeHeader(credit);
/** Makes what our own packer never makes: records, extension types, references. */
export const withRecords = new Packr({ useRecords: true, structuredClone: true, moreTypes: true });
const extension = (type: number, data: Uint8Array): Uint8Array =>
  Buffer.concat([Buffer.from([0xc8, data.length >> 8, data.length & 0xff, type]), data]);

/** By what is wrong with them. */
export const hostileHeaders: Readonly<Record<string, Uint8Array>> = {
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
