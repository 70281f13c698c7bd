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
  readonly #isReplaced: boolean;
  readonly #found: Readonly<Record<SplitName, Set<number>>> = { train: new Set(), test: new Set() };

  constructor(
    rule: 'skip' | 'fail',
    {
      counts,
      log,
      isReplaced = true,
    }: { counts: Readonly<Record<SplitName, number>>; log: (line: string) => void; isReplaced?: boolean },
  ) {
    this.#rule = rule;
    this.#counts = counts;
    this.#log = log;
    this.#isReplaced = isReplaced;
  }

  /** Takes note of a picture; throws DataError where the rule or the limit says that the run must end. */
  take(split: SplitName, { index, name, reason }: BadPicture): void {
    const text = `${name} cannot be read as a picture: ${reason}`;
    if (this.#rule === 'fail')
      throw new DataError(
        `${text} (--on-bad-image skip ${this.#isReplaced ? 'puts another one in its place' : 'leaves it out'})`,
      );
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
    const fate = this.#isReplaced ? 'the next one stands in for it' : 'it is left out';
    if (found.size <= namedPictures) this.#log(`${text}; ${fate} (${String(found.size)} so far)${more}`);
  }
}
