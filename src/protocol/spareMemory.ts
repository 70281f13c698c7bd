// Memory for what arrives, used again and freed by hand (docs/adr/0021-memory-of-messages.md). V8 counts memory outside of its heap, and with every
// 64 MB of it that came since the last time it walks its whole heap to see what can be freed: 20 ms, in which the other tower waits. A frame of
// ZeroMQ's counts twice, and only that walk frees it. A step of alexnet would take two.

/** Pieces kept for what is to come; a step of alexnet has a dozen in use at once, and more where it is cut into more parts. */
const maxSpares = 64;

/** Pieces of memory that were used before, by their size. */
export class SpareMemory {
  readonly #spares: Uint8Array[] = [];

  /** `bytes` bytes that hold anything, aligned for any typed array. */
  take(bytes: number): Uint8Array {
    const at = this.#spares.findIndex(({ byteLength }) => byteLength === bytes);
    // Not `new Uint8Array`: the zeros would cost a pass over memory that is overwritten at once.
    return (at < 0 ? undefined : this.#spares.splice(at, 1)[0]) ?? Buffer.allocUnsafeSlow(bytes);
  }

  /** Nobody reads this piece any more, which `take` gave: it may be given again. */
  release({ buffer, byteOffset, byteLength }: ArrayBufferView): void {
    if (byteLength === 0) return;
    if (this.#spares.push(new Uint8Array(buffer, byteOffset, byteLength)) > maxSpares) this.#spares.shift();
  }
}

/** Of ES2024: in Node 20 behind a flag (src/worker/launch.ts). */
type Transferable = ArrayBufferLike & { readonly transfer?: (bytes: number) => ArrayBuffer };

/** Frees frames that a socket gave, which are empty from then on; where the runtime cannot, they wait for V8. */
export function freeFrames(frames: readonly Uint8Array[]): void {
  for (const { buffer, byteLength } of frames) {
    // Only what has its memory for itself.
    if (buffer.byteLength === byteLength) (buffer as Transferable).transfer?.(0);
  }
}
