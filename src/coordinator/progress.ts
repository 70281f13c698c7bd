// How a run looks to the person who started it: one line that renews itself on a terminal, a plain line now and then without one.
// Durations come from a monotonic clock that is passed in.

/** What the line shows of a step. */
export interface StepView {
  readonly epoch: number;
  readonly step: number;
  readonly totalSteps: number;
  readonly loss: number;
  /** Share of the batch, 0..1. */
  readonly top1: number;
  readonly learningRate: number;
  readonly imagesPerSecond: number;
  /** Share of the step, 0..1. */
  readonly exchangeWait: number;
}

interface Output {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

const plainEveryMs = 10_000;
const renewEveryMs = 100;

export class Progress {
  readonly #output: Output;
  readonly #now: () => number;
  readonly #startMs: number;
  #lastShownMs = -Infinity;
  #firstStep: number | undefined;
  #isLineOpen = false;

  constructor({ output, now }: { output: Output; now: () => number }) {
    this.#output = output;
    this.#now = now;
    this.#startMs = now();
  }

  /** Shows a step, or leaves it out where the last one was shown a moment ago. */
  step(view: StepView): void {
    this.#firstStep ??= view.step;
    this.renew(() => this.#text(view, this.#now()), view.step === view.totalSteps);
  }

  /** Shows a line that the next one takes the place of, or leaves it out where another was shown a moment ago. */
  renew(textOf: () => string, isLast: boolean): void {
    const now = this.#now();
    const every = this.#output.isTTY === true ? renewEveryMs : plainEveryMs;
    if (!isLast && now - this.#lastShownMs < every) return;
    this.#lastShownMs = now;
    const text = textOf();
    if (this.#output.isTTY === true) {
      const width = (this.#output.columns ?? 120) - 1;
      this.#output.write(`\r${text.slice(0, width).padEnd(width)}`);
      this.#isLineOpen = true;
    } else {
      this.#output.write(`${text}\n`);
    }
  }

  /** Shows how many pictures are done, as rarely. */
  pictures(done: number, total: number): void {
    this.#firstStep ??= done;
    const made = done - this.#firstStep + 1;
    this.renew(() => {
      const perSecond = (1000 * made) / Math.max(1, this.#now() - this.#startMs);
      const left = duration((1000 * (total - done)) / perSecond);
      return `${String(done)}/${String(total)} pictures  ${perSecond.toFixed(0)}/s  ${left} left`;
    }, done === total);
  }

  /** What is written next begins a line of its own. */
  endLine(): void {
    if (this.#isLineOpen) this.#output.write('\n');
    this.#isLineOpen = false;
  }

  /** Shows a line that stays. */
  say(line: string): void {
    this.endLine();
    this.#output.write(`${line}\n`);
  }

  #text(view: StepView, now: number): string {
    const done = view.step - (this.#firstStep ?? view.step) + 1;
    const left = ((now - this.#startMs) / done) * (view.totalSteps - view.step);
    return [
      `epoch ${String(view.epoch)}`,
      `step ${String(view.step)}/${String(view.totalSteps)}`,
      `loss ${view.loss.toFixed(3)}`,
      `top-1 ${percent(view.top1)}`,
      `lr ${String(Number(view.learningRate.toPrecision(3)))}`,
      `${view.imagesPerSecond.toFixed(view.imagesPerSecond < 100 ? 1 : 0)} images/s`,
      `exchange wait ${percent(view.exchangeWait)}`,
      `${duration(left)} left`,
    ].join('  ');
  }
}

/** A share as a percentage with one decimal. */
export function percent(share: number): string {
  return `${(100 * share).toFixed(1)}%`;
}

/** Milliseconds as 9s, 4m05s or 3h07m. */
export function duration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${String(seconds)}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${String(minutes)}m${String(seconds % 60).padStart(2, '0')}s`;
  return `${String(Math.floor(minutes / 60))}h${String(minutes % 60).padStart(2, '0')}m`;
}
