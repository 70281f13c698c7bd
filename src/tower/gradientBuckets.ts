// Gradients on their way around the replicas while the backward pass goes on: a layer's are taken off the device as soon as they are whole,
// and their sums put back at the end. Large blocks are cut into buckets, so that one is added up while another travels; small ones (biases, a
// tiny network's everything) share one.
// Invariant: which buckets there are, and their order, depends on the layers alone, so that all replicas sum the same.

import { setImmediate as turn } from 'node:timers/promises';
import type { GradientSum } from '../spec/gradientSum.ts';
import type { Gradients } from './parameters.ts';
import { download, upload } from './tensorflow.ts';

/** Values in the largest bucket, 16 MiB: few enough of them for a network of any size to be under way at once. */
const largest = 4 * 1024 * 1024;
/** From here on a block travels by itself, 512 KiB: below, the messages of a hop cost more than what they carry. */
const smallest = 128 * 1024;

interface Block {
  readonly name: string;
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

export class GradientBuckets {
  readonly #sum: GradientSum;
  readonly #step: number;
  readonly #blocks: Block[] = [];
  readonly #underWay: Promise<void>[] = [];
  #small: Block[] = [];

  constructor(sum: GradientSum, step: number) {
    this.#sum = sum;
    this.#step = step;
  }

  /** Takes the gradients of a layer out of `gradients`, starts their sums, and lets the sockets have a turn of the event loop. */
  async takeLayer(layer: string, gradients: Gradients): Promise<void> {
    for (const [name, gradient] of gradients) {
      if (!name.startsWith(`${layer}.`)) continue;
      const { shape, values } = download(gradient);
      gradient.dispose();
      gradients.delete(name);
      const block = { name, shape, values };
      this.#blocks.push(block);
      if (values.length >= smallest) this.#start(block);
      else this.#gather(block);
    }
    await turn();
  }

  /** Waits for every sum, and puts it on the device. */
  async summed(): Promise<Gradients> {
    this.#startSmall();
    await Promise.all(this.#underWay);
    return new Map(this.#blocks.map(({ name, shape, values }) => [name, upload({ shape, values })]));
  }

  #start({ name, values }: Block): void {
    for (let from = 0, i = 0; from < values.length; from += largest, i++)
      this.#send(`${name} ${String(i)}`, values.subarray(from, from + largest));
  }

  #gather(block: Block): void {
    this.#small.push(block);
    if (this.#small.reduce((sum, { values }) => sum + values.length, 0) >= smallest) this.#startSmall();
  }

  #startSmall(): void {
    const blocks = this.#small;
    this.#small = [];
    const [first] = blocks;
    if (first === undefined) return;
    const together = new Float32Array(blocks.reduce((sum, { values }) => sum + values.length, 0));
    const places = blocks.map(({ values }, i) => {
      const at = blocks.slice(0, i).reduce((sum, before) => sum + before.values.length, 0);
      together.set(values, at);
      return { values, place: together.subarray(at, at + values.length) };
    });
    this.#send(`${first.name} and on`, together, () => {
      for (const { values, place } of places) values.set(place);
    });
  }

  #send(bucket: string, values: Float32Array, whenSummed: () => void = () => undefined): void {
    const sum = this.#sum.sum({ step: this.#step, bucket }, values).then(whenSummed);
    // The backward pass goes on; whoever waits for all of them hears of it.
    sum.catch(() => undefined);
    this.#underWay.push(sum);
  }
}
