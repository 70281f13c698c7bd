// The few statistics of the benchmarks: medians and percentiles, which one slow step cannot move, and the range of rounds as their noise.

/** The value below which a share `q` (0..1) of the values lies, interpolated between neighbours; throws where there are none. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const place = q * (sorted.length - 1);
  const below = sorted[Math.floor(place)];
  const above = sorted[Math.ceil(place)];
  if (below === undefined || above === undefined) throw new Error('no values to take a quantile of');
  return below + (above - below) * (place - Math.floor(place));
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** The arithmetic mean; throws where there are no values. */
export function mean(values: readonly number[]): number {
  if (values.length === 0) throw new Error('no values to take a mean of');
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** What is said of many steps. */
export interface Distribution {
  readonly median: number;
  readonly p10: number;
  readonly p90: number;
}

export function distribution(values: readonly number[]): Distribution {
  return { median: median(values), p10: quantile(values, 0.1), p90: quantile(values, 0.9) };
}

/** Half of the distance between the least and the greatest value, as a share of the median: the spread in "91.0 +-2%". */
export function spread(values: readonly number[]): number {
  const middle = median(values);
  return middle === 0 ? 0 : (Math.max(...values) - Math.min(...values)) / 2 / Math.abs(middle);
}

/** The median of the quotients of pairs that were measured side by side, so that a drift of the machine cancels. */
export function pairedRatio(over: readonly number[], under: readonly number[]): number {
  if (over.length !== under.length) throw new Error(`${over.length} values cannot be paired with ${under.length}`);
  return median(over.map((value, i) => value / (under[i] ?? NaN)));
}
