// What could not be decoded: each picture is named once and counted, and too many end the run (`--on-bad-image`).

import { DataError } from '../spec/errors.ts';
import type { SplitName } from './batch.ts';
import type { BadPicture } from './pack.ts';

/** Share of a split that may be bad; one picture always may. */
const limit = 0.01;
/** Lines about them; the rest is counted only. */
const namedPictures = 10;

export class BadPictures {
  readonly #rule: 'skip' | 'fail';
  readonly #counts: Readonly<Record<SplitName, number>>;
  readonly #log: (line: string) => void;
  readonly #found: Readonly<Record<SplitName, Set<number>>> = { train: new Set(), test: new Set() };

  constructor(
    rule: 'skip' | 'fail',
    { counts, log }: { counts: Readonly<Record<SplitName, number>>; log: (line: string) => void },
  ) {
    this.#rule = rule;
    this.#counts = counts;
    this.#log = log;
  }

  /** Takes note of a picture; throws DataError where the rule or the limit says that the run must end. */
  take(split: SplitName, { index, name, reason }: BadPicture): void {
    const text = `${name} cannot be read as a picture: ${reason}`;
    if (this.#rule === 'fail') throw new DataError(`${text} (--on-bad-image skip puts another one in its place)`);
    const found = this.#found[split];
    if (found.has(index)) return;
    found.add(index);
    const allowed = Math.max(1, Math.floor(limit * this.#counts[split]));
    if (found.size > allowed) {
      throw new DataError(
        `${String(found.size)} of the ${String(this.#counts[split])} pictures of the ${split} split cannot be read, more than one in a hundred; the last: ${text}`,
      );
    }
    const more = found.size === namedPictures ? '; further ones are counted only' : '';
    if (found.size <= namedPictures) this.#log(`${text}; the next one stands in for it (${String(found.size)} so far)${more}`);
  }
}
