// Waits for what only a message can bring about.
// Invariant: every wait ends: with what was waited for, with the first reason that the run cannot go on, or at its deadline.

import { AbsentError, PeerLostError } from '../spec/errors.ts';

interface Wait {
  readonly isOver: () => boolean;
  readonly resolve: () => void;
  readonly reject: (reason: Error) => void;
}

export interface Deadline {
  readonly ms: number;
  /** What is missing, for the error. */
  readonly what: () => string;
  /** Done at the deadline, before the error is made: finds out who is to blame. */
  readonly ask?: () => Promise<void>;
  /** Nothing is gained by trying again. */
  readonly isLast?: true;
}

export class Waits {
  readonly #waits = new Set<Wait>();
  #failure: Error | undefined;

  /** Ends the waits whose condition has come true: called after every message. */
  check(): void {
    for (const wait of this.#waits) {
      if (!wait.isOver()) continue;
      this.#waits.delete(wait);
      wait.resolve();
    }
  }

  /** Every wait ends, now and later, with the first reason. */
  fail(reason: Error): void {
    this.#failure ??= reason;
    for (const wait of this.#waits) wait.reject(this.#failure);
    this.#waits.clear();
  }

  /** Waits for a condition; throws PeerLostError at the deadline, AbsentError at one that is the last. */
  async until(isOver: () => boolean, deadline?: Deadline): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (isOver()) return;
    let timer: NodeJS.Timeout | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        const wait: Wait = { isOver, resolve, reject };
        this.#waits.add(wait);
        if (deadline === undefined) return;
        timer = setTimeout(() => {
          void (deadline.ask?.() ?? Promise.resolve()).then(() => {
            this.#waits.delete(wait);
            const message = `${deadline.what()}, after waiting ${(deadline.ms / 1000).toFixed(0)} s`;
            reject(deadline.isLast === true ? new AbsentError(message) : new PeerLostError(message));
          });
        }, deadline.ms);
      });
    } finally {
      clearTimeout(timer);
    }
  }

  /** Waits for work of another kind; rejects as soon as the run cannot go on. */
  async during<T>(work: Promise<T>): Promise<T> {
    if (this.#failure !== undefined) throw this.#failure;
    return new Promise<T>((resolve, reject) => {
      const wait: Wait = { isOver: () => false, resolve: () => undefined, reject };
      this.#waits.add(wait);
      void work.then(resolve, reject).finally(() => this.#waits.delete(wait));
    });
  }
}
