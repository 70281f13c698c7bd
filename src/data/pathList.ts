// Many paths in memory that threads share: one block of UTF-8 and where each path ends. A million paths cost what their letters cost.

/** Paths by their number; can be posted to a thread without a copy. */
export interface PathList {
  readonly bytes: Uint8Array<SharedArrayBuffer>;
  /** End of each path in `bytes` [count]. */
  readonly ends: Uint32Array<SharedArrayBuffer>;
}

const chunkBytes = 1 << 20;

/** A list that grows; `build` gives it in shared memory. */
export class PathListBuilder {
  /** Full ones, then the one that is written to: growing copies nothing. */
  readonly #chunks: Buffer[] = [];
  #free = Buffer.alloc(0);
  #length = 0;
  readonly #ends: number[] = [];

  /** Adds a path and gives its number. */
  add(path: string): number {
    const bytes = Buffer.from(path);
    for (let done = 0; done < bytes.length;) {
      if (this.#free.length === 0) {
        this.#free = Buffer.alloc(chunkBytes);
        this.#chunks.push(this.#free);
      }
      const count = bytes.copy(this.#free, 0, done);
      this.#free = this.#free.subarray(count);
      done += count;
    }
    this.#length += bytes.length;
    return this.#ends.push(this.#length) - 1;
  }

  build(): PathList {
    const bytes = new Uint8Array(new SharedArrayBuffer(this.#length));
    for (const [i, chunk] of this.#chunks.entries()) {
      bytes.set(chunk.subarray(0, this.#length - i * chunkBytes), i * chunkBytes);
    }
    const ends = new Uint32Array(new SharedArrayBuffer(4 * this.#ends.length));
    ends.set(this.#ends);
    return { bytes, ends };
  }
}

/** The path of a number that the list has. */
export function pathAt({ bytes, ends }: PathList, index: number): string {
  const [start, end] = [index === 0 ? 0 : (ends[index - 1] ?? 0), ends[index]];
  if (end === undefined) throw new RangeError(`there is no path ${String(index)}: the list has ${String(ends.length)}`);
  return Buffer.from(bytes.slice(start, end)).toString('utf8');
}
