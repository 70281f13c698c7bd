// How a global batch is shared by the replicas, the pairs of towers that train on parts of one batch (docs/adr/0017-replicas.md).
// Invariant: shards are runs of consecutive rows in the order of the replicas, and their sizes differ by one at most.

/** A replica's rows of a batch. */
export interface Shard {
  /** Row of the batch that is the shard's first. */
  readonly first: number;
  readonly count: number;
  /** Rows of the whole batch. */
  readonly of: number;
}

/** The shard of every replica; the last ones are empty where there are fewer rows than replicas. */
export function shardsOf(rows: number, replicas: number): Shard[] {
  const edge = (replica: number): number => Math.floor(rows / replicas) * replica + Math.min(replica, rows % replicas);
  return Array.from({ length: replicas }, (_, replica) => ({
    first: edge(replica),
    count: edge(replica + 1) - edge(replica),
    of: rows,
  }));
}
