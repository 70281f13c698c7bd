// Who watches a tower at work, to say where the time of a step goes. Nothing is watched unless a step is traced (`--trace`, `--profile`).

/** Which part of a pass something belongs to: a layer, or what stands between layers (`pictures`, `loss`, `update`). */
export interface Place {
  readonly layer: string;
  readonly phase: 'forward' | 'backward';
}

export interface PassObserver {
  /** Runs a part of a pass; whatever happens inside, also after an await, belongs to it. */
  during<T>(place: Place, run: () => T): T;
  /** Handing features or gradients to the peer, or waiting for the peer's, took from `startMs` to now. */
  crossed(what: 'send' | 'wait', startMs: number): void;
}

/** Watches nothing. */
export const unobserved: PassObserver = {
  during: (_place, run) => run(),
  crossed: () => undefined,
};
