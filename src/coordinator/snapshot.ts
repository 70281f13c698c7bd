// A snapshot on its way from the towers to a file: blocks come in the order of the layers, first all weights, then all velocities, and
// leave as merged, layout-free tensors (docs/adr/0004-model-file.md), a few rows at a time.
// Invariant: the blocks of one merged tensor are in memory at a time, as they came: each value is copied once, into a piece that stays in
// the processor's cache until it is written.

import { PeerLostError } from '../spec/errors.ts';
import { holdsRow, mergedShapes, sizeOf, towerParameters, towers } from '../spec/layout.ts';
import type { ParameterBlock } from '../spec/layout.ts';
import type { NetworkPlan } from '../spec/network.ts';
import { bytesOf } from '../formats/wholeFile.ts';
import type { TensorPiece } from '../formats/safetensors.ts';
import type { Message, ToCoordinator } from '../protocol/messages.ts';

/** One block as every tower sent it. */
export type BlockOfTowers = readonly Message<Extract<ToCoordinator, { type: 'weights' }>>[];

/** Size of a piece, as far as whole rows allow. */
const pieceFloats = 1 << 18;
const bytesPerFloat = Float32Array.BYTES_PER_ELEMENT;

/** A block of one tower, whose values are taken in their order. */
interface Part {
  readonly block: ParameterBlock;
  readonly values: FrameReader;
}

/**
 * The merged tensors of one set, taken off `blocks`; a piece is valid until the next one is asked for. Throws PeerLostError where a tower sends
 * something else.
 */
export async function* mergedPieces(
  plan: NetworkPlan,
  of: 'weights' | 'momentum',
  blocks: AsyncIterator<BlockOfTowers>,
): AsyncGenerator<TensorPiece> {
  const layouts = towers.map((tower) => towerParameters(plan, tower));
  for (const [name, shape] of mergedShapes(plan)) {
    const parts: Part[] = [];
    for (let i = layouts[0]?.findIndex(({ mergedName }) => mergedName === name) ?? 0; ; i++) {
      const ofTowers = layouts.map((layout) => layout[i]);
      if (ofTowers[0]?.mergedName !== name) break;
      const next = await blocks.next();
      for (const tower of towers) parts.push(partOf(ofTowers[tower], next.done === true ? undefined : next.value[tower], of));
    }
    for (const values of merge(shape, parts)) yield { name, values };
  }
}

function partOf(block: ParameterBlock | undefined, sent: BlockOfTowers[number] | undefined, of: string): Part {
  if (block === undefined || sent?.header.name !== block.name || sent.header.of !== of) {
    const { name, of: set, tower } = sent?.header ?? { name: 'nothing', of: '', tower: '' };
    throw new PeerLostError(
      `tower ${String(tower)} sent ${set} of ${name} where ${of} of ${block?.name ?? 'nothing'} was expected`,
    );
  }
  const values = new FrameReader(sent.payload);
  if (values.byteLength !== bytesPerFloat * sizeOf(block.shape)) {
    throw new PeerLostError(
      `tower ${String(sent.header.tower)} sent ${String(values.byteLength)} bytes for ${block.name} of shape [${block.shape.join(', ')}]`,
    );
  }
  return { block, values };
}

/** Pieces of one merged tensor, of whole rows and all in the same memory. */
function* merge(shape: readonly number[], parts: readonly Part[]): Generator<Float32Array> {
  const width = shape.at(-1) ?? 1;
  const rows = sizeOf(shape) / width;
  const rowsAtOnce = Math.min(rows, Math.max(1, Math.floor(pieceFloats / width)));
  const piece = new Float32Array(rowsAtOnce * width);
  const bytes = bytesOf(piece);
  for (let first = 0; first < rows; first += rowsAtOnce) {
    const count = Math.min(rowsAtOnce, rows - first);
    for (let row = 0; row < count; row++) {
      for (const { block, values } of parts) {
        if (!holdsRow(block, first + row)) continue;
        const start = bytesPerFloat * (row * width + block.outputs.start);
        values.read(bytes, start, start + bytesPerFloat * block.outputs.count);
      }
    }
    yield piece.subarray(0, count * width);
  }
}

/** Reads the frames of a payload from the first byte to the last. */
class FrameReader {
  readonly byteLength: number;
  readonly #frames: readonly Uint8Array[];
  #frame = 0;
  #position = 0;

  constructor(frames: readonly Uint8Array[]) {
    this.#frames = frames;
    this.byteLength = frames.reduce((sum, frame) => sum + frame.byteLength, 0);
  }

  /** Copies the next bytes to target[start, end). */
  read(target: Uint8Array, start: number, end: number): void {
    while (start < end) {
      const frame = this.#frames[this.#frame];
      if (frame === undefined) throw new Error('a payload was read beyond its end');
      const part = frame.subarray(this.#position, this.#position + end - start);
      target.set(part, start);
      start += part.length;
      this.#position += part.length;
      if (this.#position === frame.length) [this.#frame, this.#position] = [this.#frame + 1, 0];
    }
  }
}
