// Mean and standard deviation of pixels per channel, for the worker to centre pictures with (paper, section 2).
// Invariant: exact up to the last rounding and independent of the order of the pixels, because they are counted by value first.

import { bytesOf } from './pictures.ts';
import type { PictureStore } from './pictures.ts';

export interface PixelStatistics {
  /** Per channel, in 0..255 [C]. */
  readonly mean: readonly number[];
  /** Per channel, of the population [C]. */
  readonly deviation: readonly number[];
}

/** Statistics of all pixels of a store's first `count` pictures (1 or more). */
export function pixelStatistics(store: PictureStore, count: number): PixelStatistics {
  const { channels } = store.shape;
  const histograms = Array.from({ length: channels }, () => new Float64Array(256));
  const pictureBytes = bytesOf(store.shape);
  for (const start of store.starts.subarray(0, count)) {
    const end = start + pictureBytes;
    for (const [channel, histogram] of histograms.entries()) {
      for (let i = start + channel; i < end; i += channels) {
        const value = store.pixels[i] ?? 0;
        histogram[value] = (histogram[value] ?? 0) + 1;
      }
    }
  }
  const pixels = count * store.shape.height * store.shape.width;
  const mean = histograms.map((histogram) => weightedSum(histogram, (value) => value) / pixels);
  const deviation = histograms.map((histogram, channel) => {
    const centre = mean[channel] ?? 0;
    return Math.sqrt(weightedSum(histogram, (value) => (value - centre) ** 2) / pixels);
  });
  return { mean, deviation };
}

function weightedSum(histogram: Float64Array, weight: (value: number) => number): number {
  return histogram.reduce((sum, occurrences, value) => sum + occurrences * weight(value), 0);
}
