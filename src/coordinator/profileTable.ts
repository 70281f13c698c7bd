// The table of `--profile`: where a tower's step goes, by layer, forward and backward. Means over the steps and the towers.

import { layerCounts } from '../spec/counts.ts';
import type { NetworkPlan } from '../spec/network.ts';
import { towers } from '../spec/layout.ts';
import type { TowerTrace } from './spans.ts';
import { textTable, threeDigits } from './textTable.ts';
import { percent } from './progress.ts';

/** A table to print; the ops' own time is the layers', the rest is named below them. */
export function profileTable(
  traces: readonly TowerTrace[],
  { plan, batch }: { readonly plan: NetworkPlan; readonly batch: number },
): string {
  const stepMs = mean(traces.map(({ startMs, endMs }) => endMs - startMs));
  const events = traces.flatMap((trace) => trace.events);
  const msOf = (isMeant: (event: (typeof events)[number]) => boolean): number =>
    events.filter(isMeant).reduce((sum, { ms }) => sum + ms, 0) / traces.length;
  const cells = (layer: string, phase: 'forward' | 'backward', multiplyAdds: number): string[] => {
    const ms = msOf((event) => event.kind === 'op' && event.layer === layer && event.phase === phase);
    const flops = (2 * multiplyAdds * batch) / towers.length;
    return [threeDigits(ms), ms === 0 ? '' : threeDigits(flops / ms / 1e6), percent(ms / stepMs)];
  };
  const layers = layerCounts(plan).map(({ layer, forward, backward }) => [
    layer,
    ...cells(layer, 'forward', forward),
    ...cells(layer, 'backward', backward),
  ]);

  const names = new Set(layers.map(([layer]) => layer));
  const opsOf = (layer: string): number => msOf((event) => event.kind === 'op' && event.layer === layer);
  const rest: [string, number][] = [
    ['pictures', opsOf('pictures')],
    ['loss', opsOf('loss')],
    ['norm of the gradient', opsOf('norm')],
    ['update', opsOf('update')],
    ['hand to the other tower', msOf(({ kind }) => kind === 'send')],
    ['wait for the other tower', msOf(({ kind }) => kind === 'wait')],
    ['wait for the replicas', msOf(({ kind, layer }) => kind === 'pass' && layer === 'replicas')],
    ['wait for the decision', msOf(({ kind, name }) => kind === 'step' && name === 'sync')],
  ];
  const inLayers = msOf(({ kind, layer }) => kind === 'op' && layer !== undefined && names.has(layer));
  rest.push(['between ops', Math.max(0, stepMs - inLayers - rest.reduce((sum, [, ms]) => sum + ms, 0))]);
  const head = ['layer', 'forward ms', 'GFLOP/s', 'share', 'backward ms', 'GFLOP/s', 'share'];
  const steps = new Set(traces.map(({ step }) => step)).size;
  return [
    `a tower's step takes ${threeDigits(stepMs)} ms (mean of ${String(steps)}, traced):`,
    textTable([head, ...layers]),
    '',
    textTable([['the rest', 'ms', 'share'], ...rest.map(([name, ms]) => [name, threeDigits(ms), percent(ms / stepMs)])]),
  ].join('\n');
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
