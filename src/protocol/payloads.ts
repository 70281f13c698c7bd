// What the payloads of `batch` and `weights` look like, writer and reader side by side.
// Invariant: what is read has exactly the size that its header names, and lies in memory of its own.
// N pictures in a batch, H rows, W columns, C channels.

import { bytesOf, floatsOf, joinFrames, splitFrames } from './frames.ts';
import type { Message, ToWorker } from './messages.ts';
import { ProtocolError } from './protocolError.ts';

/** What a batch carries. */
export interface BatchValues {
  /** Classes [N]. */
  readonly labels: Int32Array;
  /** [N,H,W,C]. */
  readonly pixels: Uint8Array;
  /** What is added to the colour of each picture, in 0..255 [N,3]; none for pictures that stay as they are. */
  readonly colour?: Float32Array;
}

/** A batch as frames: the labels first, then the colours if any, a frame each. Nothing of it may be written to afterwards. */
export function batchPayload({ labels, pixels, colour }: BatchValues): Uint8Array[] {
  return [bytesOf(labels), ...(colour === undefined ? [] : [bytesOf(colour)]), ...splitFrames(pixels)];
}

/** The values of a batch; throws ProtocolError where they do not fit its header. */
export function readBatchPayload(batch: Message<Extract<ToWorker, { type: 'batch' }>>): BatchValues {
  const { count, height, width, channels, hasColour } = batch.header;
  const frames = [...batch.payload];
  const labelFrame = frames.shift();
  const colourFrame = hasColour ? frames.shift() : undefined;
  if (labelFrame === undefined) throw new ProtocolError('a batch without labels');
  if (hasColour && colourFrame === undefined) throw new ProtocolError('a batch without the colours that its header speaks of');
  const labels = joinFrames([labelFrame], 4 * count);
  return {
    labels: new Int32Array(labels.buffer, labels.byteOffset, count),
    pixels: joinFrames(frames, count * height * width * channels),
    ...(colourFrame === undefined ? {} : { colour: floatsOf([colourFrame], 3 * count) }),
  };
}

/** fp32 values (a parameter block's, probabilities) as frames; they may not be written to afterwards. */
export function floatsPayload(values: Float32Array): Uint8Array[] {
  return splitFrames(bytesOf(values));
}

/** `length` fp32 values; throws ProtocolError where the payload has another size. */
export function readFloatsPayload(payload: readonly Uint8Array[], length: number): Float32Array {
  return floatsOf(payload, length);
}
