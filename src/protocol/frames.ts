// A whole message as frames: [header, ...payload]. The payload is raw bytes cut into frames of 1 MiB (libzmq moves those at 2-3 GB/s, one
// of 120 MB at 0.55), without a copy on the way out and with one on the way in.
// Invariant: size and CRC-32 of the payload stand in the header, so that a flipped bit or a buffer that was written to after `send` is
// noticed on plain tcp too. The CRC is always on: it runs as fast as memory can be read, zlib's at a fifth of that. Numbers are little-endian,
// as on every machine we run on.

import { crc32 } from '@node-rs/crc32';
import type { z } from 'zod';
import { decodeHeader, encodeHeader } from './header.ts';
import { protocolVersion } from './messages.ts';
import type { Message } from './messages.ts';
import { ProtocolError } from './protocolError.ts';
import { SpareMemory, freeFrames } from './spareMemory.ts';

/** Size of a payload frame, and the largest frame that a socket accepts. */
export const frameBytes = 1024 * 1024;

interface PayloadCheck {
  readonly bytes: number;
  readonly crc: number;
}

/** What a schema of messages.ts makes of a header. */
type HeaderSchema = z.ZodType<{ readonly payload?: PayloadCheck | undefined }>;

/** Frames of a message: the header with version and payload check added, and the payload as it is. */
export function encodeMessage(header: object, payload: readonly Uint8Array[] = []): Uint8Array[] {
  const check = payload.length === 0 ? undefined : checkOf(payload);
  return [encodeHeader({ version: protocolVersion, ...header, payload: check }), ...payload];
}

/** Reads a message and checks header, size and CRC; throws ProtocolError. */
export function decodeMessage<Schema extends HeaderSchema>(
  frames: readonly Uint8Array[],
  schema: Schema,
): Message<z.infer<Schema>> {
  const [head, ...payload] = frames;
  if (head === undefined) throw new ProtocolError('a message without a header');
  const header = decodeHeader(head, schema);
  const promised = header.payload ?? { bytes: 0, crc: 0 };
  const actual = checkOf(payload);
  if (actual.bytes !== promised.bytes) {
    throw new ProtocolError(
      `a payload of ${String(actual.bytes)} bytes instead of ${String(promised.bytes)}: ${titleOf(header)}`,
    );
  }
  if (actual.crc !== promised.crc) {
    throw new ProtocolError(`a payload damaged on its way (CRC-32 differs): ${titleOf(header)}`);
  }
  return { header, payload };
}

function checkOf(payload: readonly Uint8Array[]): PayloadCheck {
  let bytes = 0;
  let crc = 0;
  for (const frame of payload) {
    bytes += frame.length;
    crc = crc32(frame, crc);
  }
  return { bytes, crc };
}

/** A header in a line, for errors and dumps: `tensor step 12 site conv3 phase forward`. */
export function titleOf(header: object): string {
  const { type, step, ...rest } = header as Record<string, unknown>;
  const words = [String(type), 'step', String(step)];
  for (const [key, value] of Object.entries(rest)) {
    const isTelling = key !== 'version' && key !== 'run' && (typeof value === 'string' || typeof value === 'number');
    if (isTelling) words.push(key, String(value));
  }
  return words.join(' ').slice(0, 300);
}

/** Cuts bytes into views of at most 1 MiB; nothing is copied, and no bytes make no frame. */
export function splitFrames(bytes: Uint8Array): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (let start = 0; start < bytes.length; start += frameBytes) frames.push(bytes.subarray(start, start + frameBytes));
  return frames;
}

/** Copies frames into one buffer of exactly `byteLength` bytes, aligned for any typed array; throws ProtocolError before any memory is taken. */
export function joinFrames(frames: readonly Uint8Array[], byteLength: number, memory = new SpareMemory()): Uint8Array {
  const total = sizeOfFrames(frames);
  if (total !== byteLength) throw new ProtocolError(`a payload of ${String(total)} bytes instead of ${String(byteLength)}`);
  const joined = memory.take(byteLength);
  let position = 0;
  for (const frame of frames) {
    joined.set(frame, position);
    position += frame.length;
  }
  return joined;
}

/** A payload out of a socket's frames, which are freed: in one piece, or in none where there are no frames. */
export function gatherFrames(frames: readonly Uint8Array[], memory: SpareMemory): Uint8Array[] {
  if (frames.length === 0) return [];
  const joined = joinFrames(frames, sizeOfFrames(frames), memory);
  freeFrames(frames);
  return [joined];
}

function sizeOfFrames(frames: readonly Uint8Array[]): number {
  return frames.reduce((sum, { length }) => sum + length, 0);
}

/** The bytes of a typed array; nothing is copied. */
export function bytesOf(values: Float32Array | Int32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

/** Frames as `length` fp32 values, in memory of their own; throws ProtocolError where the sizes differ. */
export function floatsOf(frames: readonly Uint8Array[], length: number, memory?: SpareMemory): Float32Array {
  const bytes = joinFrames(frames, 4 * length, memory);
  return new Float32Array(bytes.buffer, bytes.byteOffset, length);
}
