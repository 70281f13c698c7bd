// The last headers that passed a socket, kept for the day when a deadline passes and somebody asks what happened before.
// Invariant: bounded; what is kept are headers, never payloads.

import { titleOf } from './frames.ts';

const kept = 64;

/** A ring of the last 64 headers. */
export class HeaderRing {
  readonly #entries: { readonly atMs: number; readonly direction: 'in' | 'out'; readonly header: object }[] = [];
  #next = 0;

  add(direction: 'in' | 'out', header: object): void {
    this.#entries[this.#next] = { atMs: performance.now(), direction, header };
    this.#next = (this.#next + 1) % kept;
  }

  /** One line a header, oldest first, with its age: `1204 ms ago in tensor step 12 site conv3 phase forward`. */
  dump(): string[] {
    const now = performance.now();
    const inOrder = [...this.#entries.slice(this.#next), ...this.#entries.slice(0, this.#next)];
    return inOrder.map(({ atMs, direction, header }) => `${(now - atMs).toFixed(0)} ms ago ${direction} ${titleOf(header)}`);
  }
}
