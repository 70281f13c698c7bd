// Payloads: cut without a copy, joined without a doubt.

import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  bytesOf,
  decodeMessage,
  encodeMessage,
  floatsOf,
  frameBytes,
  gatherFrames,
  joinFrames,
  splitFrames,
} from '../../src/protocol/frames.ts';
import { betweenTowersSchema, toWorkerSchema } from '../../src/protocol/messages.ts';
import type { Message, ToWorker } from '../../src/protocol/messages.ts';
import { batchPayload, readBatchPayload, readFloatsPayload, floatsPayload } from '../../src/protocol/payloads.ts';
import { ProtocolError } from '../../src/protocol/protocolError.ts';
import { SpareMemory } from '../../src/protocol/spareMemory.ts';

const tensor = {
  run: 'r1',
  generation: 1,
  step: 4,
  type: 'tensor',
  site: 'fc6',
  phase: 'forward',
  microBatch: 0,
  shape: [2, 3],
} as const;
const batch = {
  run: 'r1',
  generation: 1,
  step: 4,
  type: 'batch',
  kind: 'train',
  epoch: 0,
  index: 4,
  height: 2,
  width: 3,
  channels: 3,
  hasColour: false,
} as const;

function at(frames: readonly Uint8Array[], index: number): Uint8Array {
  const frame = frames[index];
  if (frame === undefined) throw new Error(`no frame ${String(index)}`);
  return frame;
}

describe('frames', () => {
  test('are views of at most 1 MiB that join to the same bytes', () => {
    const sizes = fc.oneof(
      fc.nat({ max: 100 }),
      fc.constantFrom(frameBytes - 1, frameBytes, frameBytes + 1, 2 * frameBytes, 3 * frameBytes + 17),
    );
    fc.assert(
      fc.property(sizes, (size) => {
        const bytes = new Uint8Array(size).map((_, i) => i * 31);
        const frames = splitFrames(bytes);
        expect(frames.length).toBe(Math.ceil(size / frameBytes));
        expect(frames.every((frame) => frame.buffer === bytes.buffer && frame.length <= frameBytes && frame.length > 0)).toBe(
          true,
        );
        expect(Buffer.from(joinFrames(frames, size)).equals(Buffer.from(bytes))).toBe(true);
      }),
      { numRuns: 40 },
    );
  });

  test('join in memory that was given back, of their size only', () => {
    const memory = new SpareMemory();
    const first = joinFrames([Uint8Array.of(1), Uint8Array.of(2, 3)], 3, memory);
    memory.release(first);
    expect(joinFrames([Uint8Array.of(4)], 1, memory).buffer).not.toBe(first.buffer);
    const second = joinFrames([Uint8Array.of(5, 6), Uint8Array.of(7)], 3, memory);
    expect(second.buffer).toBe(first.buffer);
    expect([...second]).toEqual([5, 6, 7]);
    expect(joinFrames([Uint8Array.of(8, 9, 10)], 3, memory).buffer).not.toBe(first.buffer);
  });

  test('are gathered in one piece and freed, where their memory is their own', () => {
    const shared = Uint8Array.of(1, 2, 3, 4);
    const own = Uint8Array.of(5, 6);
    expect(gatherFrames([], new SpareMemory())).toEqual([]);
    const [piece] = gatherFrames([shared.subarray(1, 3), own], new SpareMemory());
    expect([...(piece ?? [])]).toEqual([2, 3, 5, 6]);
    expect(shared.length).toBe(4);
    // Node 20 frees with a flag only, which the worker process is given.
    expect(own.length).toBe('transfer' in ArrayBuffer.prototype ? 0 : 2);
  });

  test('of another size than promised are refused before memory is taken', () => {
    expect(() => joinFrames([Uint8Array.of(1, 2)], 3)).toThrow(ProtocolError);
    expect(() => joinFrames([Uint8Array.of(1, 2)], 2 ** 50)).toThrow(ProtocolError);
    expect(() => joinFrames([Uint8Array.of(1, 2)], Infinity)).toThrow(ProtocolError);
    expect(() => joinFrames([], NaN)).toThrow(ProtocolError);
  });

  test('become floats wherever they lie in memory', () => {
    const values = Float32Array.of(1.5, -0, 3e-42, NaN);
    const unaligned = new Uint8Array(new ArrayBuffer(17), 1);
    unaligned.set(bytesOf(values));
    expect(floatsOf([unaligned], 4)).toEqual(values);
  });
});

describe('a message', () => {
  test('arrives with its payload', () => {
    const values = Float32Array.of(1, 2, 3, 4, 5, 6);
    const { header, payload } = decodeMessage(encodeMessage(tensor, splitFrames(bytesOf(values))), betweenTowersSchema);
    expect(header).toMatchObject(tensor);
    expect(floatsOf(payload, 6)).toEqual(values);
  });

  test('with any one bit flipped, in header or payload, is refused or says something else in its header', () => {
    const frames = encodeMessage({ ...tensor, shape: [100] }, splitFrames(bytesOf(new Float32Array(100).fill(0.1))));
    const sent = JSON.stringify(decodeMessage(frames, betweenTowersSchema).header);
    fc.assert(
      fc.property(fc.nat({ max: 1 }), fc.nat(), fc.nat({ max: 7 }), (index, position, bit) => {
        const damaged = frames.map((frame) => Uint8Array.from(frame));
        const frame = at(damaged, index);
        const place = position % frame.length;
        frame[place] = (frame[place] ?? 0) ^ (1 << bit);
        try {
          const { header } = decodeMessage(damaged, betweenTowersSchema);
          expect(index).toBe(0);
          expect(JSON.stringify(header)).not.toBe(sent);
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolError);
        }
      }),
      { numRuns: 2000 },
    );
  });

  test('carries the CRC-32 of the whole payload, as zlib computes it', () => {
    const bytes = new Uint8Array(frameBytes + 12_345).map((_, i) => (i * 131) >> 3);
    const frames = encodeMessage({ ...tensor, shape: [1] }, splitFrames(bytes));
    expect(decodeMessage(frames, betweenTowersSchema).header.payload).toEqual({ bytes: bytes.length, crc: crc32(bytes) });
  });

  test('that is damaged is named: tensor, step and site', () => {
    const frames = encodeMessage(tensor, [new Uint8Array(24)]);
    at(frames, 1)[5] = 1;
    expect(() => decodeMessage(frames, betweenTowersSchema)).toThrow(/damaged .*tensor step 4 .*site fc6/);
  });

  test('whose buffer was written to after it was sent is noticed', () => {
    const values = new Float32Array(1000).fill(1);
    const frames = encodeMessage({ ...tensor, shape: [1000] }, splitFrames(bytesOf(values)));
    values[500] = 2;
    expect(() => decodeMessage(frames, betweenTowersSchema)).toThrow(/CRC-32/);
  });

  test('with a frame too few, too many or in the wrong place is refused', () => {
    const frames = encodeMessage(tensor, [Uint8Array.of(1, 2), Uint8Array.of(3, 4)]);
    const [header, a, b] = [at(frames, 0), at(frames, 1), at(frames, 2)];
    for (const wrong of [[], [header], [header, a], [header, b, a], [header, a, b, b], [a, header, b]]) {
      expect(() => decodeMessage(wrong, betweenTowersSchema)).toThrow(ProtocolError);
    }
  });
});

describe('a payload', () => {
  function received(count: number, payload: readonly Uint8Array[]): Message<Extract<ToWorker, { type: 'batch' }>> {
    const { header, payload: frames } = decodeMessage(
      encodeMessage({ ...batch, count, first: 0, of: count }, payload),
      toWorkerSchema,
    );
    if (header.type !== 'batch') throw new Error('not a batch');
    return { header, payload: frames };
  }

  test('of a batch gives labels and pixels back', () => {
    const labels = Int32Array.of(7, -1);
    const pixels = new Uint8Array(2 * 2 * 3 * 3).map((_, i) => i);
    const read = readBatchPayload(received(2, batchPayload({ labels, pixels })));
    expect(read.labels).toEqual(labels);
    expect([...read.pixels]).toEqual([...pixels]);
  });

  test('that does not fit its batch is refused', () => {
    const labels = Int32Array.of(7, 8);
    for (const payload of [
      [],
      batchPayload({ labels, pixels: new Uint8Array(35) }),
      batchPayload({ labels: Int32Array.of(1), pixels: new Uint8Array(36) }),
    ]) {
      expect(() => readBatchPayload(received(2, payload))).toThrow(ProtocolError);
    }
  });

  test('of weights gives the values back', () => {
    const values = Float32Array.of(1, NaN, -0);
    expect(readFloatsPayload(floatsPayload(values), 3)).toEqual(values);
    expect(() => readFloatsPayload(floatsPayload(values), 4)).toThrow(ProtocolError);
  });
});
