// Both towers of a network in this process, linked by the memory exchange; weights and gradients go in and out as the merged network.

import { performance } from 'node:perf_hooks';
import type { GradientSum } from '../../src/spec/gradientSum.ts';
import type { Exchange, SwapTag, TensorData } from '../../src/spec/exchange.ts';
import { mergedShapes, sizeOf, splitBlock, towerParameters, towers } from '../../src/spec/layout.ts';
import type { ParameterBlock, TowerIndex } from '../../src/spec/layout.ts';
import type { NetworkPlan } from '../../src/spec/network.ts';
import type { Shard } from '../../src/spec/shards.ts';
import { memoryExchangePair } from '../../src/protocol/memoryExchange.ts';
import type { DropoutRule, MaskSource } from '../../src/tower/dropout.ts';
import type { Kernels } from '../../src/tower/kernels.ts';
import { Parameters } from '../../src/tower/parameters.ts';
import type { ParameterSet } from '../../src/tower/parameters.ts';
import type { Scores } from '../../src/tower/softmaxCrossEntropy.ts';
import { download } from '../../src/tower/tensorflow.ts';
import type { Tensor } from '../../src/tower/tensorflow.ts';
import { Tower } from '../../src/tower/tower.ts';
import type { StepGradients } from '../../src/tower/tower.ts';
import type { UpdateRates } from '../../src/tower/updateRule.ts';
import { mergeBlock } from '../spec/mergeBlock.ts';

/** Values of the merged network by name. */
export type Merged = Map<string, Float32Array>;

export interface PairOptions {
  readonly plan: NetworkPlan;
  readonly kernels: Kernels;
  readonly dropout: DropoutRule;
  readonly masks: (tower: TowerIndex) => MaskSource;
  readonly microBatch: number;
  readonly trainOnly?: readonly string[] | undefined;
  /** By tower, where this pair is one of several replicas. */
  readonly gradientSums?: readonly [GradientSum, GradientSum];
  /** Told of every swap of either tower, and when it begins to wait for what the other one sends. */
  readonly onSwap?: (tag: SwapTag, tower: TowerIndex) => void;
  readonly onWait?: (tag: SwapTag, tower: TowerIndex) => void;
}

type Both<T> = readonly [T, T];

export class TowerPair {
  readonly plan: NetworkPlan;
  readonly parameters: Both<Parameters>;
  readonly towers: Both<Tower>;
  readonly #on: Pick<PairOptions, 'onSwap' | 'onWait'>;
  readonly #partialLogits: [Float32Array, Float32Array] = [new Float32Array(), new Float32Array()];

  constructor({ plan, masks, onSwap, onWait, gradientSums, ...shared }: PairOptions) {
    this.#on = { ...(onSwap && { onSwap }), ...(onWait && { onWait }) };
    this.plan = plan;
    this.parameters = [
      new Parameters(towerParameters(plan, 0), shared.kernels.update),
      new Parameters(towerParameters(plan, 1), shared.kernels.update),
    ];
    const exchanges = memoryExchangePair();
    const make = (index: TowerIndex): Tower =>
      new Tower({
        ...shared,
        plan,
        index,
        parameters: this.parameters[index],
        exchange: this.#listenToLogits(exchanges[index], index),
        masks: masks(index),
        gradientSum: gradientSums?.[index],
        now: () => performance.now(),
      });
    this.towers = [make(0), make(1)];
  }

  async computeGradients(step: number, images: Tensor, labels: Tensor, shard?: Shard): Promise<Both<StepGradients>> {
    const [zero, one] = this.towers;
    return Promise.all([zero.computeGradients(step, images, labels, shard), one.computeGradients(step, images, labels, shard)]);
  }

  async evaluate(batch: number, images: Tensor, labels: Tensor): Promise<Both<Scores>> {
    const [zero, one] = this.towers;
    return Promise.all([zero.evaluate(batch, images, labels), one.evaluate(batch, images, labels)]);
  }

  applyGradients(results: Both<StepGradients>, rates: (block: ParameterBlock) => UpdateRates): void {
    for (const tower of towers) this.towers[tower].applyGradients(results[tower].gradients, rates);
  }

  loadMerged(set: ParameterSet, merged: ReadonlyMap<string, Float32Array>): void {
    for (const tower of towers) {
      for (const block of this.parameters[tower].blocks) {
        this.parameters[tower].load(block.name, set, splitBlock(block, merged.get(block.mergedName)!));
      }
    }
  }

  saveMerged(set: ParameterSet): Merged {
    return this.#merge((tower, { name }) => this.parameters[tower].save(name, set));
  }

  mergeGradients(results: Both<StepGradients>): Merged {
    return this.#merge((tower, { name }) => download(results[tower].gradients.get(name)!).values);
  }

  /** The logits of the last pass [N * K], put together from what the towers sent each other. */
  logits(): Float32Array {
    const [own, peer] = this.#partialLogits;
    const bias = this.parameters[0].save('fc8.bias', 'weights');
    return own.map((value, i) => value + peer[i]! + bias[i % bias.length]!);
  }

  close(): void {
    for (const tower of towers) {
      this.towers[tower].close();
      this.parameters[tower].close();
    }
  }

  #merge(valuesOf: (tower: TowerIndex, block: ParameterBlock) => Float32Array): Merged {
    const merged: Merged = new Map([...mergedShapes(this.plan)].map(([name, shape]) => [name, new Float32Array(sizeOf(shape))]));
    for (const tower of towers) {
      for (const block of this.parameters[tower].blocks) {
        mergeBlock(block, valuesOf(tower, block), merged.get(block.mergedName)!);
      }
    }
    return merged;
  }

  #listenToLogits(exchange: Exchange, tower: TowerIndex): Exchange {
    return {
      swap: (tag, mine: TensorData) => {
        const { onSwap, onWait } = this.#on;
        onSwap?.(tag, tower);
        if (tag.site === 'fc8') this.#partialLogits[tower] = mine.values.slice();
        const { received } = exchange.swap(tag, mine);
        return {
          get received() {
            onWait?.(tag, tower);
            return received;
          },
        };
      },
      release: (received) => {
        exchange.release(received);
      },
      get bytesSent() {
        return exchange.bytesSent;
      },
      close: (reason) => {
        exchange.close(reason);
      },
    };
  }
}
