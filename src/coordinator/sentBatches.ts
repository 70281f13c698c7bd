// Batches on their way to workers, until the last of them has read its copy off the wire: until then their pixels may not be written over.
// A worker reads batches in the order in which they were sent, and says so with a credit for each.

interface SentBatch {
  readers: number;
  readonly whenRead: () => void;
}

export class SentBatches {
  readonly #byWorker = new Map<string, SentBatch[]>();

  /** `whenRead` is called once all of these workers have read the batch; never, where one is lost before. */
  add(workerIds: readonly string[], whenRead: () => void): void {
    const sent = { readers: workerIds.length, whenRead };
    for (const workerId of workerIds) {
      const batches = this.#byWorker.get(workerId);
      if (batches === undefined) this.#byWorker.set(workerId, [sent]);
      else batches.push(sent);
    }
  }

  /** This worker has read the batch that it was sent first of those it had not read. */
  read(workerId: string): void {
    const sent = this.#byWorker.get(workerId)?.shift();
    if (sent === undefined) return;
    sent.readers--;
    if (sent.readers === 0) sent.whenRead();
  }
}
