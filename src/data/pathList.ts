// Many paths in memory that threads share: one block of UTF-8 and where each path ends. A million paths cost what their letters cost.

/** Paths by their number; can be posted to a thread without a copy. */
export interface PathList {
  readonly bytes: Uint8Array<SharedArrayBuffer>;
  /** End of each path in `bytes` [count]. */
  readonly ends: Uint32Array<SharedArrayBuffer>;
}

/** A list that grows; `build` gives it in shared memory. */
export class PathListBuilder {
  #bytes = Buffer.alloc(1 << 16);
  #length = 0;
  readonly #ends: number[] = [];

  /** Adds a path and gives its number. */
  add(path: string): number {
    const needed = this.#length + Buffer.byteLength(path);
    if (needed > this.#bytes.length) this.#bytes = Buffer.concat([this.#bytes], 2 * needed);
    this.#length += this.#bytes.write(path, this.#length);
    return this.#ends.push(this.#length) - 1;
  }

  build(): PathList {
    const bytes = new Uint8Array(new SharedArrayBuffer(this.#length));
    bytes.set(this.#bytes.subarray(0, this.#length));
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
