// A pool of threads that crop, flip and pack batches, so that the event loop never does.
// Invariant: every load settles: with its batch, with its own error, or with DataError when a thread dies or the pool is closed;
// and what it settles with does not depend on the number of threads.

import { Worker } from 'node:worker_threads';
import { DataError } from '../spec/errors.ts';
import type { AugmentOptions } from './augment.ts';
import type { Batch, BatchRequest, SplitName } from './batch.ts';
import type { BadPictures } from './badPictures.ts';
import { batchBytes } from './pack.ts';
import type { BadPicture } from './pack.ts';
import type { SplitStore } from './pictures.ts';

/** What a thread is started with; the pixels in it are shared, not copied. */
export interface LoaderSetup {
  readonly splits: Readonly<Record<SplitName, SplitStore>>;
  readonly augment: AugmentOptions;
}

export interface ThreadRequest {
  readonly id: number;
  readonly request: BatchRequest;
  /** Where the pixels go. */
  readonly memory: SharedArrayBuffer;
}

export type ThreadReply =
  | ({ readonly type: 'loaded'; readonly id: number; readonly bad: readonly BadPicture[] } & Pick<Batch, 'labels' | 'shape'>)
  | { readonly type: 'failed'; readonly id: number; readonly message: string; readonly isDataError: boolean };

interface PendingLoad {
  readonly split: SplitName;
  readonly memory: SharedArrayBuffer;
  readonly resolve: (batch: Batch) => void;
  readonly reject: (error: Error) => void;
}

interface Thread {
  readonly worker: Worker;
  readonly pending: Map<number, PendingLoad>;
}

/** The compiled thread. Node 20 runs no TypeScript, so that the sources (under test) need the build as well. */
export const loaderThreadFile = new URL(
  import.meta.url.endsWith('.ts') ? '../../dist/src/data/loaderThread.js' : './loaderThread.js',
  import.meta.url,
);

export interface LoaderOptions {
  readonly threads: number;
  readonly threadFile: URL;
  /** Counts what cannot be decoded; data in memory always can. */
  readonly badPictures?: BadPictures | undefined;
}

/** Pixels of batches that nobody reads any more, kept for the next; few lie here at once, for the next load takes one, unless its size is another. */
const maxSpares = 4;

export class Loader {
  readonly #setup: LoaderSetup;
  readonly #threads: readonly Thread[];
  readonly #badPictures: BadPictures | undefined;
  readonly #spares: SharedArrayBuffer[] = [];
  #nextId = 0;
  /** Why no load can succeed any more. */
  #ended: Error | undefined;

  /** Starts `threads` threads (1 or more) that run `threadFile`. */
  constructor(setup: LoaderSetup, { threads, threadFile, badPictures }: LoaderOptions) {
    this.#setup = setup;
    this.#badPictures = badPictures;
    this.#threads = Array.from({ length: threads }, () => this.#startThread(setup, threadFile));
  }

  /** Loads a batch in the least busy thread; rejects with DataError where the data, a thread or the pool has failed. */
  load(request: BatchRequest): Promise<Batch> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    const thread = this.#threads.reduce((least, other) => (other.pending.size < least.pending.size ? other : least));
    const id = this.#nextId++;
    const { split } = request;
    const { splits, augment } = this.#setup;
    const memory = this.#takeMemory(batchBytes(splits[split].shape, augment, request.indices.length));
    return new Promise((resolve, reject) => {
      thread.pending.set(id, { split, memory, resolve, reject });
      thread.worker.postMessage({ id, request, memory } satisfies ThreadRequest);
    });
  }

  /** Nobody reads the pixels of this batch any more: a batch to come may be written over them. */
  release({ pixels: { buffer } }: Batch): void {
    if (!(buffer instanceof SharedArrayBuffer)) return;
    if (this.#spares.push(buffer) > maxSpares) this.#spares.shift();
  }

  /** Stops the threads; loads still pending reject. */
  async close(): Promise<void> {
    this.#end(new DataError('the data source was closed while pictures were being loaded'));
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()));
  }

  /** What was released, where it has the right size: fresh memory would be cleared, paged in, and collected as garbage, batch after batch. */
  #takeMemory(bytes: number): SharedArrayBuffer {
    const at = this.#spares.findIndex(({ byteLength }) => byteLength === bytes);
    return (at < 0 ? undefined : this.#spares.splice(at, 1)[0]) ?? new SharedArrayBuffer(bytes);
  }

  #startThread(setup: LoaderSetup, threadFile: URL): Thread {
    const worker = new Worker(threadFile, { workerData: setup });
    const pending = new Map<number, PendingLoad>();
    worker.on('message', (reply: ThreadReply) => {
      this.#settle(pending, reply);
    });
    worker.on('error', (cause) => {
      this.#end(
        new DataError(`a data loading thread died: ${cause instanceof Error ? cause.message : String(cause)}`, { cause }),
      );
    });
    worker.on('exit', (code) => {
      this.#end(new DataError(`a data loading thread stopped with exit code ${String(code)}`));
    });
    return { worker, pending };
  }

  #end(reason: Error): void {
    this.#ended ??= reason;
    for (const { pending } of this.#threads) {
      for (const { reject } of pending.values()) reject(this.#ended);
      pending.clear();
    }
  }

  #settle(pending: Map<number, PendingLoad>, reply: ThreadReply): void {
    const load = pending.get(reply.id);
    if (load === undefined) return;
    pending.delete(reply.id);
    if (reply.type === 'failed') {
      load.reject(reply.isDataError ? new DataError(reply.message) : new Error(`loading a batch failed: ${reply.message}`));
      return;
    }
    try {
      for (const bad of reply.bad) this.#badPictures?.take(load.split, bad);
      const { labels, shape } = reply;
      load.resolve({ pixels: new Uint8Array(load.memory), labels, shape });
    } catch (error) {
      load.reject(error instanceof Error ? error : new Error(String(error)));
    }
  }
}
