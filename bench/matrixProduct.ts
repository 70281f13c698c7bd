// The yardstick: how many floating-point operations a second a large fp32 matrix product does in this process. No step can be faster.

import tf from '@tensorflow/tfjs-node-gpu';
import { matMul } from '../src/tower/linearMap.ts';
import { dispose } from '../src/tower/tensorflow.ts';
import type { Tensor } from '../src/tower/tensorflow.ts';

/** Rows and columns of both factors: 16 MiB each, so that packing them costs little beside the product. */
const side = 2048;
const flopsPerProduct = 2 * side ** 3;
const warmUpProducts = 3;

export class MatrixProduct {
  readonly #a: Tensor = tf.randomNormal([side, side]);
  readonly #b: Tensor = tf.randomNormal([side, side]);

  constructor() {
    for (let i = 0; i < warmUpProducts; i++) this.#multiply();
  }

  /** FLOP/s over at least this time. */
  measure(milliseconds: number): number {
    const start = performance.now();
    let products = 0;
    let elapsedMs = 0;
    while (elapsedMs < milliseconds) {
      this.#multiply();
      products++;
      elapsedMs = performance.now() - start;
    }
    return (products * flopsPerProduct * 1000) / elapsedMs;
  }

  close(): void {
    dispose(this.#a, this.#b);
  }

  #multiply(): void {
    matMul(this.#a, this.#b, false, false).dispose();
  }
}
