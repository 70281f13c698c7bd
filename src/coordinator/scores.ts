// What is made of probabilities: views averaged, the best classes named, pictures scored and counted in a confusion matrix. Pure functions.
// p: probabilities [N,K] of N pictures over K classes, row-major.

/** The mean over several views of the same pictures (paper, section 4.1); one view is left as it is. */
export function averageViews(views: readonly Float32Array[]): Float32Array {
  const [first] = views;
  if (first === undefined) throw new RangeError('no view to average');
  if (views.length === 1) return first;
  return first.map((_, i) => views.reduce((sum, view) => sum + (view[i] ?? 0), 0) / views.length);
}

export interface RankedClass {
  readonly index: number;
  readonly probability: number;
}

/** The `count` classes of highest probability, best first; of equal ones the first by index. */
export function topClasses(row: Float32Array, count: number): RankedClass[] {
  return Array.from(row, (probability, index) => ({ index, probability }))
    .sort((a, b) => b.probability - a.probability || a.index - b.index)
    .slice(0, count);
}

/** How many pictures of each class were taken for each: rows are true classes, columns predicted ones. */
export interface Confusion {
  readonly classes: readonly string[];
  /** [K,K]. */
  readonly counts: Uint32Array;
}

export interface TestScores {
  readonly top1: number;
  readonly top5: number;
  /** Mean of -log p of the true class. */
  readonly loss: number;
  readonly count: number;
}

/** The smallest positive fp32 number: what a probability that was rounded to 0 is taken for, so that the loss stays finite. */
const smallest = 2 ** -149;

/** Scores that grow with every batch. As in training, a picture counts as right where fewer than one (five) classes are above its own. */
export class ScoreSums {
  readonly confusion: Confusion;
  #top1 = 0;
  #top5 = 0;
  #loss = 0;
  #count = 0;

  constructor(classes: readonly string[]) {
    this.confusion = { classes, counts: new Uint32Array(classes.length ** 2) };
  }

  get count(): number {
    return this.#count;
  }

  /** The means over all pictures so far. */
  get scores(): TestScores {
    const count = this.#count;
    return { top1: this.#top1 / count, top5: this.#top5 / count, loss: this.#loss / count, count };
  }

  /** `p` [N,K], `labels` [N]. */
  add(p: Float32Array, labels: Int32Array): void {
    const { classes, counts } = this.confusion;
    for (const [i, label] of labels.entries()) {
      const row = p.subarray(i * classes.length, (i + 1) * classes.length);
      const own = row[label];
      if (own === undefined) throw new RangeError(`label ${String(label)} of ${String(classes.length)} classes`);
      let [above, best] = [0, 0];
      for (const [k, share] of row.entries()) {
        if (share > own) above++;
        if (share > (row[best] ?? 0)) best = k;
      }
      if (above < 1) this.#top1++;
      if (above < 5) this.#top5++;
      this.#loss -= Math.log(Math.max(own, smallest));
      this.#count++;
      const cell = label * classes.length + best;
      counts[cell] = (counts[cell] ?? 0) + 1;
    }
  }
}
