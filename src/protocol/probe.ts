// libzmq says that some connection broke, not whose. Who is gone is found out by sending everybody a small message, more than once:
// the socket may learn of the loss a moment after its monitor.
// Invariant: at most one round of probes at a time, however many connections break (a port scan breaks thousands).

const delaysMs = [0, 20, 80, 200, 500] as const;

/** Calls `probe` five times within 0.8 s of each `start`. */
export class ProbeRounds {
  readonly #probe: () => void;
  #timer: NodeJS.Timeout | undefined;
  #startAgain = false;

  constructor(probe: () => void) {
    this.#probe = probe;
  }

  start(): void {
    if (this.#timer === undefined) this.#schedule(0);
    else this.#startAgain = true;
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#startAgain = false;
  }

  #schedule(round: number): void {
    const delayMs = delaysMs[round];
    if (delayMs === undefined) {
      this.#timer = undefined;
      if (this.#startAgain) {
        this.#startAgain = false;
        this.#schedule(0);
      }
      return;
    }
    this.#timer = setTimeout(() => {
      // What is scheduled comes before what is probed: the probe may call stop.
      this.#schedule(round + 1);
      this.#probe();
    }, delayMs);
  }
}
