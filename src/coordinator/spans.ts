// What was seen of a traced step: the account of a tower, and the coordinator's own.

import type { TowerIndex } from '../spec/layout.ts';
import type { TraceEvent } from '../spec/trace.ts';

/** What one tower did in a step; its times are the coordinator's clock's. */
export interface TowerTrace {
  readonly step: number;
  readonly replica: number;
  readonly tower: TowerIndex;
  readonly startMs: number;
  readonly endMs: number;
  readonly events: readonly TraceEvent[];
}

/** What the coordinator did, by its own clock. */
export interface CoordinatorSpan {
  readonly name: string;
  readonly startMs: number;
  readonly ms: number;
}
