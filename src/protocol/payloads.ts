// What the payloads of `batch` and `weights` look like, writer and reader side by side.
// Invariant: what is read has exactly the size that its header names, and lies in memory of its own.
// N pictures in a batch, H rows, W columns, C channels.

import { bytesOf, floatsOf, joinFrames, splitFrames } from './frames.ts';
import type { Message, ToWorker } from './messages.ts';
import { ProtocolError } from './protocolError.ts';

/** Labels [N] and pixels [N,H,W,C] as frames: the labels first, as one frame of int32. Neither may be written to afterwards. */
export function batchPayload(labels: Int32Array, pixels: Uint8Array): Uint8Array[] {
  return [bytesOf(labels), ...splitFrames(pixels)];
}

/** Labels [N] and pixels [N,H,W,C] of a batch; throws ProtocolError where they do not fit its header. */
export function readBatchPayload(batch: Message<Extract<ToWorker, { type: 'batch' }>>): {
  labels: Int32Array;
  pixels: Uint8Array;
} {
  const { count, height, width, channels } = batch.header;
  const [labelFrame, ...pixelFrames] = batch.payload;
  if (labelFrame === undefined) throw new ProtocolError('a batch without labels');
  const labels = joinFrames([labelFrame], 4 * count);
  return {
    labels: new Int32Array(labels.buffer, labels.byteOffset, count),
    pixels: joinFrames(pixelFrames, count * height * width * channels),
  };
}

/** Values of a parameter block as frames; they may not be written to afterwards. */
export function weightsPayload(values: Float32Array): Uint8Array[] {
  return splitFrames(bytesOf(values));
}

/** `length` values of a parameter block; throws ProtocolError where the payload has another size. */
export function readWeightsPayload(payload: readonly Uint8Array[], length: number): Float32Array {
  return floatsOf(payload, length);
}
