// Matches what one tower waits for with what the other one sent, by tag: data may arrive before or after it is asked for.
// Invariant: a board fails once and as a whole (deadline, abort, lost peer, nonsense); from then on every swap rejects with that reason.

import type { SwapTag, TensorData } from '../spec/exchange.ts';
import { swapTagText } from '../spec/exchange.ts';
import { CrosstowerError, PeerLostError } from '../spec/errors.ts';
import type { TowerIndex } from '../spec/layout.ts';
import { afterReading } from './afterReading.ts';
import { ProtocolError } from './protocolError.ts';

/** Arrivals that nobody has asked for yet: towers are at most one crossing apart, so that more than a few mean a mistake. */
const maxUnclaimed = 64;
/** A deadline grows with the size of the tensor: this is half of the slowest link that a run must survive (8 Mbit/s). */
const slowestBytesPerMs = 500;

/** What the two ends of an exchange are called in messages; the first listens. */
export type EndNames = readonly [string, string];
export const towerEnds: EndNames = ['tower 0', 'tower 1'];

/** When an exchange gives up. */
export interface ExchangeLimits {
  /** How long a swap may wait, on top of the time that its bytes take on a slow link; for ever if absent. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** The two towers, unless this is a link of another kind. */
  readonly ends?: EndNames;
}

interface Waiter {
  readonly resolve: (data: TensorData) => void;
  readonly reject: (reason: Error) => void;
  readonly timer: NodeJS.Timeout | undefined;
}

export class SwapBoard {
  /** Of this end, and of the other. */
  readonly #names: EndNames;
  readonly #limits: ExchangeLimits;
  readonly #waiters = new Map<string, Waiter>();
  readonly #arrivals = new Map<string, TensorData>();
  readonly #onFail: (reason: Error) => void;
  readonly #onAbort = (): void => {
    const cause: unknown = this.#limits.signal?.reason;
    this.fail(cause instanceof CrosstowerError ? cause : new PeerLostError('the exchange was given up', { cause }));
  };
  #failure: Error | undefined;

  constructor(tower: TowerIndex, limits: ExchangeLimits, onFail: (reason: Error) => void) {
    const [first, second] = limits.ends ?? towerEnds;
    this.#names = tower === 0 ? [first, second] : [second, first];
    this.#limits = limits;
    this.#onFail = onFail;
    if (limits.signal?.aborted === true) queueMicrotask(this.#onAbort);
    else limits.signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  get failure(): Error | undefined {
    return this.#failure;
  }

  /** The other tower's data under this tag, once it is there. */
  claim(tag: SwapTag, bytesExpected: number): Promise<TensorData> {
    const received = this.#claim(swapTagText(tag), tag, bytesExpected);
    // The tower may still be busy with its own half when the board fails: until it awaits, nobody is listening.
    received.catch(() => undefined);
    return received;
  }

  async #claim(key: string, tag: SwapTag, bytesExpected: number): Promise<TensorData> {
    if (this.#failure !== undefined) throw this.#failure;
    const arrived = this.#arrivals.get(key);
    if (arrived !== undefined) {
      this.#arrivals.delete(key);
      return arrived;
    }
    if (this.#waiters.has(key)) throw new Error(`two swaps with one tag: ${key}`);
    return new Promise<TensorData>((resolve, reject) => {
      this.#waiters.set(key, { resolve, reject, timer: this.#startDeadline(key, tag, bytesExpected) });
    });
  }

  /** Hands over what the other tower sent; throws ProtocolError where a tag comes twice or nobody asks for any. */
  arrive(tag: SwapTag, data: TensorData): void {
    const key = swapTagText(tag);
    const waiter = this.#waiters.get(key);
    if (waiter !== undefined) {
      this.#waiters.delete(key);
      clearTimeout(waiter.timer);
      waiter.resolve(data);
      return;
    }
    if (this.#arrivals.has(key)) throw new ProtocolError(`${this.#names[1]} sent ${key} twice`);
    if (this.#arrivals.size >= maxUnclaimed) {
      throw new ProtocolError(`${this.#names[1]} sent ${String(maxUnclaimed)} tensors too early, the last is ${key}`);
    }
    this.#arrivals.set(key, data);
  }

  /** Rejects every swap, now and later; only the first reason counts. */
  fail(reason: Error): void {
    if (this.#failure !== undefined) return;
    this.#failure = reason;
    this.#limits.signal?.removeEventListener('abort', this.#onAbort);
    this.#arrivals.clear();
    for (const waiter of this.#waiters.values()) {
      clearTimeout(waiter.timer);
      waiter.reject(reason);
    }
    this.#waiters.clear();
    this.#onFail(reason);
  }

  #startDeadline(key: string, tag: SwapTag, bytesExpected: number): NodeJS.Timeout | undefined {
    if (this.#limits.timeoutMs === undefined) return undefined;
    const deadlineMs = this.#limits.timeoutMs + bytesExpected / slowestBytesPerMs;
    return setTimeout(() => {
      // The event loop may have been blocked by a kernel for longer than the deadline, with the data lying in the socket.
      afterReading(() => {
        if (!this.#waiters.has(key)) return;
        const [self, peer] = this.#names;
        this.fail(
          new PeerLostError(
            `${self} waited ${(deadlineMs / 1000).toFixed(1)} s for ${peer} at step ${String(tag.step)}, ` +
              `${tag.site} (${tag.phase}, part ${String(tag.microBatch)}): is the worker of ${peer} stuck, or its link down?`,
          ),
        );
      });
    }, deadlineMs);
  }
}
