// What a process did in a step, stretch by stretch: what `--trace` and `--profile` are made of (docs/performance.md).

import { z } from 'zod';

const milliseconds = z.number().min(0);

export const traceEventSchema = z.strictObject({
  /** An op, such as `Conv2D`; a layer's pass; or what a worker does around them. */
  kind: z.enum(['op', 'pass', 'send', 'wait', 'step']),
  name: z.string().max(128),
  /** Where in the step: a layer of the network, or `pictures`, `loss`, `replicas`, `norm`, `update`. Missing outside of a pass. */
  layer: z.string().max(64).optional(),
  phase: z.enum(['forward', 'backward']).optional(),
  /** By the monotonic clock of the process. */
  startMs: milliseconds,
  ms: milliseconds,
});

export type TraceEvent = z.infer<typeof traceEventSchema>;

/** A worker's account of a step, as it travels. */
export const traceEventsSchema = z.array(traceEventSchema).max(100_000);
