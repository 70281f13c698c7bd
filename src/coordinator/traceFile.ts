// A trace in Chrome's event format, which Perfetto and chrome://tracing open: a process per tower and one for the coordinator; in a tower a
// lane for layers and their ops, and one for what crosses.

import { seatNames, seatNumber } from './seats.ts';
import type { Seat } from './seats.ts';
import type { CoordinatorSpan, TowerTrace } from './spans.ts';

/** A complete event ("X") or a name ("M"); times are microseconds. */
interface ChromeEvent {
  readonly ph: 'X' | 'M';
  readonly pid: number;
  readonly tid: number;
  readonly name: string;
  readonly cat?: string;
  readonly ts?: number;
  readonly dur?: number;
  readonly args?: Readonly<Record<string, unknown>>;
}

const coordinator = 0;
const lanes = { compute: 1, crossings: 2 } as const;

/** The text of the file; all times are one clock's. */
export function traceFile(towers: readonly TowerTrace[], spans: readonly CoordinatorSpan[]): string {
  const startMs = Math.min(...towers.map((trace) => trace.startMs), ...spans.map((span) => span.startMs));
  const at = ({ startMs: at, ms }: { startMs: number; ms: number }): { ts: number; dur: number } => ({
    ts: Math.round(1000 * (at - startMs)),
    dur: Math.round(1000 * ms),
  });
  const events: ChromeEvent[] = [named('process_name', coordinator, 0, 'coordinator')];
  const replicas = 1 + Math.max(0, ...towers.map(({ replica }) => replica));
  for (const [pid, trace] of new Map(towers.map((trace) => [pidOf(trace), trace]))) {
    events.push(
      named('process_name', pid, 0, seatNames([trace], replicas)),
      named('thread_name', pid, lanes.compute, 'layers and ops'),
      named('thread_name', pid, lanes.crossings, 'crossings'),
    );
  }
  for (const span of spans) events.push({ ph: 'X', pid: coordinator, tid: 1, name: span.name, cat: 'coordinator', ...at(span) });
  for (const trace of towers) {
    const { step, startMs: from, endMs, events: inStep } = trace;
    const pid = pidOf(trace);
    const whole = at({ startMs: from, ms: endMs - from });
    events.push({ ph: 'X', pid, tid: lanes.compute, name: `step ${String(step)}`, cat: 'step', ...whole });
    for (const event of inStep) {
      const isCrossing = event.kind === 'send' || event.kind === 'wait';
      events.push({
        ph: 'X',
        pid,
        tid: isCrossing ? lanes.crossings : lanes.compute,
        name: event.name,
        cat: event.kind,
        ...at(event),
        ...(event.layer === undefined ? {} : { args: { layer: event.layer, phase: event.phase } }),
      });
    }
  }
  return `${JSON.stringify({ traceEvents: events, displayTimeUnit: 'ms' })}\n`;
}

function pidOf(seat: Seat): number {
  return 1 + seatNumber(seat);
}

function named(what: 'process_name' | 'thread_name', pid: number, tid: number, name: string): ChromeEvent {
  return { ph: 'M', pid, tid, name: what, args: { name } };
}
