// Accounts of two towers whose clocks differ, put on the coordinator's; the file that a trace viewer opens; the table.

import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { profileTable } from '../../src/coordinator/profileTable.ts';
import { StepTraces } from '../../src/coordinator/stepTraces.ts';
import { StorageError } from '../../src/spec/errors.ts';
import { networks, planNetwork } from '../../src/spec/network.ts';
import type { TraceEvent } from '../../src/spec/trace.ts';

const plan = planNetwork(networks.tiny, 10);
const conv: TraceEvent = { kind: 'op', name: 'Conv2D', layer: 'conv2', phase: 'forward', startMs: 1010, ms: 4 };
const wait: TraceEvent = { kind: 'wait', name: 'wait', layer: 'conv3', phase: 'forward', startMs: 1020, ms: 5 };

function account(tower: 0 | 1, step: number, offsetMs: number, events: readonly TraceEvent[] = [conv, wait]) {
  const shifted = events.map((event) => ({ ...event, startMs: event.startMs + offsetMs }));
  const times = { startMs: 1000 + offsetMs, decidedMs: 1041 + offsetMs, doneMs: 1049 + offsetMs };
  return {
    header: { version: 4 as const, run: 'r', generation: 1, type: 'trace' as const, step, tower, ...times },
    payload: [Buffer.from(JSON.stringify(shifted))],
  };
}

// The decision left at 1040 and stepDone came at 1050: a millisecond each way.
const times = { collecting: 1005, reported: 1039, decided: 1040, done: 1050 };

function tracesTo(file: string | undefined, { from = 0, to = 100, steps = 1 } = {}) {
  const said: string[] = [];
  const say = (line: string): void => {
    said.push(line);
  };
  const traces = new StepTraces({ file, isProfiled: true, steps, plan, batch: 10, from, to, say, now: () => 1000 });
  return { traces, said };
}

interface Shown {
  readonly ph: string;
  readonly pid: number;
  readonly tid: number;
  readonly name: string;
  readonly ts: number;
  readonly dur: number;
  readonly args?: { readonly name?: string; readonly layer?: string };
}

describe('a trace', () => {
  test('puts towers whose clocks are hours apart on one clock, each in a process of its own', async () => {
    const file = join(mkdtempSync(join(tmpdir(), 'crosstower-test-')), 'trace.json');
    const { traces, said } = tracesTo(file);
    await traces.timed('load batch 12', () => Promise.resolve());
    traces.add({ step: 11, times, workers: [account(0, 11, 7_200_000), account(1, 11, -900)] });
    const { traceEvents } = JSON.parse(readFileSync(file, 'utf8')) as { traceEvents: Shown[] };
    const named = traceEvents.filter(({ ph, name }) => ph === 'M' && name === 'process_name').map(({ args }) => args?.name);
    expect(named).toEqual(['coordinator', 'tower 0', 'tower 1']);
    const convs = traceEvents.filter(({ name }) => name === 'Conv2D');
    // Both began at 1010 by the coordinator's clock, 10 ms after the first event.
    expect(convs.map(({ pid, ts, dur }) => [pid, ts, dur])).toEqual([
      [1, 10_000, 4000],
      [2, 10_000, 4000],
    ]);
    expect(convs[0]?.args?.layer).toBe('conv2');
    const crossing = traceEvents.find(({ name, pid }) => name === 'wait' && pid === 1);
    expect(crossing?.tid).not.toBe(convs[0]?.tid);
    expect(traceEvents.map(({ name }) => name)).toContain('wait for gradients');
    expect(said.at(-1)).toContain(file);
  });

  test.each([
    { from: 0, to: 100, steps: 3, traced: [11, 12, 13] },
    { from: 40, to: 100, steps: 2, traced: [51, 52] },
    { from: 0, to: 5, steps: 3, traced: [3, 4, 5] },
    { from: 0, to: 2, steps: 3, traced: [1, 2] },
  ])('of $steps steps from $from to $to takes $traced', ({ traced, ...choice }) => {
    const { traces } = tracesTo(undefined, choice);
    expect(Array.from({ length: 100 }, (_, i) => i + 1).filter((step) => traces.isTraced(step))).toEqual(traced);
  });

  test('that cannot be written is an error that names the file', () => {
    const { traces } = tracesTo('/nowhere/at/all.json');
    expect(() => {
      traces.add({ step: 11, times, workers: [account(0, 11, 0), account(1, 11, 0)] });
    }).toThrow(StorageError);
  });

  test('of a worker that sends something else ends with its name for it', () => {
    const { traces } = tracesTo(undefined);
    const bad = { ...account(0, 11, 0), payload: [Buffer.from('[{"kind":"op"}]')] };
    expect(() => {
      traces.add({ step: 11, times, workers: [bad] });
    }).toThrow('a trace that is none');
  });
});

test('the table gives a layer its milliseconds, its GFLOP/s and its share, and names what is left', () => {
  const trace = { step: 11, replica: 0, startMs: 1000, endMs: 1050, events: [conv, wait] };
  const table = profileTable(
    [
      { ...trace, tower: 0 },
      { ...trace, tower: 1 },
    ],
    { plan, batch: 10 },
  );
  // conv2 of tiny: 8 kernels a tower of 5x5 over 4 maps, on 11x11 places; twice the multiply-adds of 10 pictures in 4 ms.
  const gflops = (2 * 11 * 11 * 8 * 25 * 4 * 10) / 4 / 1e6;
  const row = table.split('\n').find((line) => line.startsWith('conv2'));
  expect(row?.split(/\s+/).slice(0, 4)).toEqual(['conv2', '4.00', gflops.toFixed(3), '8.0%']);
  expect(table).toMatch(/wait for the other tower +5\.00 +10\.0%/);
  expect(table).toMatch(/between ops +41\.0 +82\.0%/);
});
