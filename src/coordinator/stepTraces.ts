// Where the time of some steps went, in the coordinator and in every tower: a file for a trace viewer, and a table.
// Clocks: every process has its own. A decision goes out and `stepDone` comes back, both with the worker's times: as in NTP, the offset is the
// mean of the two differences, and wrong by half of what the messages took at most.

import { writeFileSync } from 'node:fs';
import { StorageError } from '../spec/errors.ts';
import { towers } from '../spec/layout.ts';
import type { NetworkPlan } from '../spec/network.ts';
import { traceEventsSchema } from '../spec/trace.ts';
import type { TraceEvent } from '../spec/trace.ts';
import { joinFrames } from '../protocol/frames.ts';
import type { Message, ToCoordinator } from '../protocol/messages.ts';
import { ProtocolError } from '../protocol/protocolError.ts';
import { profileTable } from './profileTable.ts';
import type { CoordinatorSpan, TowerTrace } from './spans.ts';
import { traceFile } from './traceFile.ts';

export interface TraceChoice {
  /** Where the trace goes, if it is wanted. */
  readonly file: string | undefined;
  /** Whether the table is wanted. */
  readonly isProfiled: boolean;
  readonly steps: number;
}

/** Steps of a run that are left out: memory and caches settle in them. */
const warmupSteps = 10;

interface Options extends TraceChoice {
  readonly plan: NetworkPlan;
  /** Pictures that a tower sees of a step, in the mean. */
  readonly batch: number;
  /** The last step before the run's own, and its last. */
  readonly from: number;
  readonly to: number;
  readonly say: (line: string) => void;
  /** Monotonic milliseconds. */
  readonly now: () => number;
}

export class StepTraces {
  readonly #options: Options;
  readonly #first: number;
  readonly #last: number;
  readonly #towers: TowerTrace[] = [];
  readonly #spans: CoordinatorSpan[] = [];
  #isDone = false;

  constructor(options: Options) {
    const { from, to, steps } = options;
    this.#options = options;
    this.#last = Math.min(to, from + warmupSteps + steps);
    this.#first = Math.max(from + 1, this.#last - steps + 1);
  }

  isTraced(step: number): boolean {
    return step >= this.#first && step <= this.#last;
  }

  /** Runs something of the coordinator's own; it stands in the trace if it falls into its steps. */
  async timed<T>(name: string, run: () => Promise<T>): Promise<T> {
    const { now } = this.#options;
    const startMs = now();
    const result = await run();
    if (!this.#isDone) this.#spans.push({ name, startMs, ms: now() - startMs });
    return result;
  }

  /** Takes a step's account; with the last one the file is written and the table shown. Throws StorageError for the file. */
  add({
    step,
    times,
    workers,
  }: {
    step: number;
    times: { collecting: number; reported: number; decided: number; done: number };
    workers: readonly Message<Extract<ToCoordinator, { type: 'trace' }>>[];
  }): void {
    const { collecting, reported, decided, done } = times;
    this.#spans.push(
      { name: 'wait for gradients', startMs: collecting, ms: reported - collecting },
      { name: 'decide', startMs: reported, ms: decided - reported },
      { name: 'wait for the update', startMs: decided, ms: done - decided },
    );
    for (const [i, { header, payload }] of workers.entries()) {
      const toOurs = (decided - header.decidedMs + (done - header.doneMs)) / 2;
      this.#towers.push({
        step,
        // In the order of the seats.
        replica: Math.floor(i / towers.length),
        tower: header.tower,
        startMs: header.startMs + toOurs,
        endMs: header.doneMs + toOurs,
        events: readEvents(payload).map((event) => ({ ...event, startMs: event.startMs + toOurs })),
      });
    }
    if (step === this.#last) this.#finish();
  }

  #finish(): void {
    const { file, isProfiled, plan, batch, say } = this.#options;
    this.#isDone = true;
    if (isProfiled) say(profileTable(this.#towers, { plan, batch }));
    if (file === undefined) return;
    const startMs = Math.min(...this.#towers.map((trace) => trace.startMs));
    const spans = this.#spans.filter((span) => span.startMs + span.ms >= startMs);
    try {
      writeFileSync(file, traceFile(this.#towers, spans));
    } catch (error) {
      throw new StorageError(`the trace could not be written to ${file}: ${error instanceof Error ? error.message : ''}`, {
        cause: error,
      });
    }
    say(`steps ${String(this.#first)} to ${String(this.#last)} are in ${file}: open it in ui.perfetto.dev or chrome://tracing`);
  }
}

function readEvents(payload: readonly Uint8Array[]): TraceEvent[] {
  const bytes = joinFrames(
    payload,
    payload.reduce((sum, frame) => sum + frame.length, 0),
  );
  try {
    return traceEventsSchema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')));
  } catch (error) {
    throw new ProtocolError('a trace that is none', { cause: error });
  }
}
