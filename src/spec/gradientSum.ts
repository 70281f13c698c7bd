// The port between the replicas of one tower: one verb, sum. Every replica calls it with the same tag and its own gradients, and ends with
// the sum of all. Implementation: a ring of exchanges, in memory or over ZeroMQ (src/protocol/ringSum.ts, docs/adr/0017-replicas.md).

/** Names one sum of a run: no two sums share a tag, and all replicas start theirs in the same order. */
export interface SumTag {
  readonly step: number;
  /** Which part of the gradients, such as `fc6.weight.own 0`. */
  readonly bucket: string;
}

/** A replica's way to the others. */
export interface GradientSum {
  /**
   * Replaces `values` by the sum over all replicas, the same bytes in each of them; rejects with PeerLostError where one is lost. The memory is
   * the sum's from then on: it may be read once the sum is there, and must not be written to again.
   */
  sum(tag: SumTag, values: Float32Array): Promise<void>;
  /** Bytes of gradients handed over so far. */
  readonly bytesSent: number;
  /** Gives up: what is still awaited rejects with the reason. */
  close(reason?: Error): void;
}
