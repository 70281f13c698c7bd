// What the payloads of `batch` and `weights` look like, writer and reader side by side.
// Invariant: what is read has exactly the size that its header names.
// N pictures in a batch, H rows, W columns, C channels.

import { bytesOf, joinFrames, splitFrames } from './frames.ts';
import type { Message, ToWorker } from './messages.ts';

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

/** The values of a batch, the pixels where they lie if the payload is in one piece; throws ProtocolError where they do not fit its header. */
export function readBatchPayload({ header, payload }: Message<Extract<ToWorker, { type: 'batch' }>>): BatchValues {
  const { count, height, width, channels, hasColour } = header;
  const colours = hasColour ? 3 * count : 0;
  const pixelsAt = 4 * (count + colours);
  const { buffer, byteOffset, byteLength } = inOnePiece(payload, pixelsAt + count * height * width * channels);
  return {
    // Copies: a tensor lies in them for a whole step, and the pixels' memory is wanted back before.
    labels: new Int32Array(buffer, byteOffset, count).slice(),
    pixels: new Uint8Array(buffer, byteOffset + pixelsAt, byteLength - pixelsAt),
    ...(hasColour ? { colour: new Float32Array(buffer, byteOffset + 4 * count, colours).slice() } : {}),
  };
}

/** A payload of `bytes` bytes, aligned for fp32; copied where it lies otherwise. Throws ProtocolError where it has another size. */
function inOnePiece(payload: readonly Uint8Array[], bytes: number): Uint8Array {
  const [piece, ...more] = payload;
  const isWhole = piece !== undefined && more.length === 0 && piece.length === bytes && piece.byteOffset % 4 === 0;
  return isWhole ? piece : joinFrames(payload, bytes);
}

/** fp32 values (a parameter block's, probabilities) as frames; they may not be written to afterwards. */
export function floatsPayload(values: Float32Array): Uint8Array[] {
  return splitFrames(bytesOf(values));
}

/** `length` fp32 values, where they lie if the payload is in one piece; throws ProtocolError where it has another size. */
export function readFloatsPayload(payload: readonly Uint8Array[], length: number): Float32Array {
  const { buffer, byteOffset } = inOnePiece(payload, 4 * length);
  return new Float32Array(buffer, byteOffset, length);
}
