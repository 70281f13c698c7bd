// Watches the towers of this process in the steps that the coordinator wants traced: every op with its layer, every crossing, every wait.
// Invariant: a step that is not traced is not slowed down: nothing is watched between `end` and the next `begin`.
// On a GPU an op is over when it has been handed to the device, not when it has been computed.

import { AsyncLocalStorage } from 'node:async_hooks';
import type { TowerIndex } from '../spec/layout.ts';
import type { TraceEvent } from '../spec/trace.ts';
import type { PassObserver, Place } from '../tower/observer.ts';
import { observeOps } from '../tower/tensorflow.ts';

/** Where the code that runs belongs: it follows a pass across its awaits, so that two towers in one process are kept apart. */
const current = new AsyncLocalStorage<Place & { readonly tower: TowerIndex }>();

export class StepTrace {
  readonly #now: () => number;
  readonly #events = new Map<TowerIndex, TraceEvent[]>();
  #isOn = false;

  /** `now` is a monotonic clock in milliseconds. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Watches from now on, for towers of this process. */
  begin(towers: readonly TowerIndex[]): void {
    this.#isOn = true;
    this.#events.clear();
    for (const tower of towers) this.#events.set(tower, []);
    observeOps(({ name, startMs, endMs }) => {
      const { tower = towers[0] ?? 0, ...place } = current.getStore() ?? {};
      this.#add(tower, { kind: 'op', name, ...place, startMs, ms: endMs - startMs });
    }, this.#now);
  }

  /** Watches no longer; gives what was seen of each tower. */
  end(): ReadonlyMap<TowerIndex, readonly TraceEvent[]> {
    observeOps(undefined, this.#now);
    this.#isOn = false;
    return new Map(this.#events);
  }

  /** What the process did for a tower from `startMs` to now, outside of its passes. */
  did(tower: TowerIndex, name: string, startMs: number): void {
    this.#add(tower, { kind: 'step', name, startMs, ms: this.#now() - startMs });
  }

  /** For one tower of this process. */
  observerOf(tower: TowerIndex): PassObserver {
    return {
      during: (place, run) => (this.#isOn ? current.run({ tower, ...place }, () => this.#timed(tower, place, run)) : run()),
      crossed: (what, startMs) => {
        this.#add(tower, { kind: what, name: what, ...placeOf(current.getStore()), startMs, ms: this.#now() - startMs });
      },
    };
  }

  #timed<T>(tower: TowerIndex, place: Place, run: () => T): T {
    const startMs = this.#now();
    const add = (): void => {
      const name = `${place.layer} ${place.phase}`;
      this.#add(tower, { kind: 'pass', name, ...place, startMs, ms: this.#now() - startMs });
    };
    const result = run();
    if (result instanceof Promise) result.then(add, () => undefined);
    else add();
    return result;
  }

  #add(tower: TowerIndex, event: TraceEvent): void {
    if (this.#isOn) this.#events.get(tower)?.push(event);
  }
}

function placeOf(store: Place | undefined): Partial<Place> {
  return store === undefined ? {} : { layer: store.layer, phase: store.phase };
}
