// The port between the two towers: one verb, swap. Both towers call it with the same tag, each hands over its own data and is promised
// the other's. Implementations: in memory and over ZeroMQ (src/protocol); neither may change a bit.

/** A tensor in host memory: fp32 values in row-major order. */
export interface TensorData {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** Names one swap of a run: no two swaps share a tag. */
export interface SwapTag {
  readonly step: number;
  /** The crossing layer, such as `conv3` or `fc6`. */
  readonly site: string;
  /** Feature maps go forward, their gradients backward; evaluation only goes forward. `sum` is a hop of a gradient sum (ringSum.ts). */
  readonly phase: 'forward' | 'backward' | 'evaluate' | 'sum';
  /** Part of the batch; of a sum: the hop. */
  readonly microBatch: number;
}

export interface Swap {
  /** The other tower's data under the same tag; rejects with PeerLostError on a lost peer, a passed deadline or an abort. */
  readonly received: Promise<TensorData>;
}

/** The link between a tower and its peer. */
export interface Exchange {
  /** Hands `mine` over (its memory must not be written to again) and returns at once. */
  swap(tag: SwapTag, mine: TensorData): Swap;
  /** Nobody reads any more what was received here: what comes next may be written over it. */
  release(received: TensorData): void;
  /** Bytes of tensor data handed over so far. */
  readonly bytesSent: number;
  /** Gives the link up: what is still awaited rejects with the reason. */
  close(reason?: Error): void;
}

/** A link that is used in one direction only: by either half of a swap. */
export interface OneWayLink {
  /** Hands `mine` over, as `swap` does; throws the reason where the link has been given up. */
  give(tag: SwapTag, mine: TensorData): void;
  /** The other end's data under the same tag, of so many bytes; rejects as `Swap.received` does. */
  take(tag: SwapTag, bytes: number): Promise<TensorData>;
  /** As in Exchange. */
  release(received: TensorData): void;
  readonly bytesSent: number;
  close(reason?: Error): void;
}

/** The tag as one word, for maps and messages: `step 12 fc6 forward 0`. */
export function swapTagText(tag: SwapTag): string {
  return `step ${String(tag.step)} ${tag.site} ${tag.phase} ${String(tag.microBatch)}`;
}
