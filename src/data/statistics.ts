// Mean, standard deviation and covariance of pixels, for the worker to centre pictures with (paper, section 2) and for PCA colour (4.1).
// Invariant: sums are exact integers until the last division, so that neither the order of the pixels nor of the pictures counts.

import type { PixelStatistics } from './batch.ts';
import { bytesOf } from './pictures.ts';
import type { PictureStore } from './pictures.ts';

/** Sums as they are kept in a file: of each channel, and of each product of two [C*C]. */
export interface ExactSums {
  readonly pixels: number;
  readonly values: readonly number[];
  readonly products: readonly number[];
}

/** Sums over pixels that statistics are made of: of values, and of products of two channels. Exact up to 2^53 / 255^2 pixels, 138 billion. */
export class PixelSums {
  readonly #channels: number;
  readonly #values: Float64Array;
  readonly #products: Float64Array;
  #pixels = 0;

  constructor(channels: number) {
    this.#channels = channels;
    this.#values = new Float64Array(channels);
    this.#products = new Float64Array(channels * channels);
  }

  /** Takes the pixels of pictures, [...,C]. */
  add(pixels: Uint8Array): void {
    const channels = this.#channels;
    this.#pixels += pixels.length / channels;
    if (channels === 3) this.#addColours(pixels);
    else this.#addGrey(pixels);
  }

  /** The sums themselves, all integers. */
  get exact(): ExactSums {
    return { pixels: this.#pixels, values: [...this.#values], products: [...this.#products] };
  }

  /** Takes sums that were taken before, of as many channels. */
  addExact({ pixels, values, products }: ExactSums): void {
    this.#pixels += pixels;
    for (const [i, sum] of values.entries()) this.#values[i] = (this.#values[i] ?? 0) + sum;
    for (const [i, sum] of products.entries()) this.#products[i] = (this.#products[i] ?? 0) + sum;
  }

  get statistics(): PixelStatistics {
    const channels = Array.from({ length: this.#channels }, (_, channel) => channel);
    const mean = channels.map((channel) => (this.#values[channel] ?? 0) / this.#pixels);
    const covariance = channels.map((i) =>
      channels.map((j) => (this.#products[i * this.#channels + j] ?? 0) / this.#pixels - (mean[i] ?? 0) * (mean[j] ?? 0)),
    );
    return {
      mean,
      deviation: channels.map((channel) => Math.sqrt(Math.max(0, covariance[channel]?.[channel] ?? 0))),
      covariance,
    };
  }

  /** Spelled out: this loop goes over every pixel of a dataset. */
  #addColours(pixels: Uint8Array): void {
    let [r, g, b, rr, gg, bb, rg, rb, gb] = [0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (let i = 0; i + 2 < pixels.length; i += 3) {
      const red = pixels[i] ?? 0;
      const green = pixels[i + 1] ?? 0;
      const blue = pixels[i + 2] ?? 0;
      r += red;
      g += green;
      b += blue;
      rr += red * red;
      gg += green * green;
      bb += blue * blue;
      rg += red * green;
      rb += red * blue;
      gb += green * blue;
    }
    for (const [i, sum] of [r, g, b].entries()) this.#values[i] = (this.#values[i] ?? 0) + sum;
    for (const [i, sum] of [rr, rg, rb, rg, gg, gb, rb, gb, bb].entries()) this.#products[i] = (this.#products[i] ?? 0) + sum;
  }

  #addGrey(pixels: Uint8Array): void {
    let [sum, squares] = [0, 0];
    for (const value of pixels) {
      sum += value;
      squares += value * value;
    }
    this.#values[0] = (this.#values[0] ?? 0) + sum;
    this.#products[0] = (this.#products[0] ?? 0) + squares;
  }
}

/** Statistics of all pixels of a store's first `count` pictures (1 or more). */
export function pixelStatistics(store: PictureStore, count: number): PixelStatistics {
  const sums = new PixelSums(store.shape.channels);
  const pictureBytes = bytesOf(store.shape);
  for (const start of store.starts.subarray(0, count)) sums.add(store.pixels.subarray(start, start + pictureBytes));
  return sums.statistics;
}
