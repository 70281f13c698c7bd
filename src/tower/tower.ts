// One tower: half of every layer's kernels, fed the same pictures as the other half (paper, section 3.5 and figure 2).
// Its passes are its own code, not tfjs's tape: the tape is synchronous and cannot wait for the peer at a crossing.
// Pictures go through the convolutions in parts (convStack.ts); the dense layers see the whole batch.

import type { Exchange, SwapTag, TensorData } from '../spec/exchange.ts';
import type { ParameterBlock, TowerIndex } from '../spec/layout.ts';
import type { NetworkPlan } from '../spec/network.ts';
import type { GradientSum } from '../spec/gradientSum.ts';
import type { Shard } from '../spec/shards.ts';
import { gradientsWanted } from '../spec/trainedLayers.ts';
import type { GradientsWanted } from '../spec/trainedLayers.ts';
import { ConvStage } from './convStage.ts';
import { ConvStack } from './convStack.ts';
import type { ConvTape } from './convStack.ts';
import type { Send } from './crossing.ts';
import { DenseStage } from './denseStage.ts';
import type { DenseSaved, Pass } from './denseStage.ts';
import type { DropoutRule, MaskSource } from './dropout.ts';
import type { Kernels } from './kernels.ts';
import { GradientBuckets } from './gradientBuckets.ts';
import { LogitsStage } from './logitsStage.ts';
import { unobserved } from './observer.ts';
import type { PassObserver, Place } from './observer.ts';
import type { Gradients, Parameters } from './parameters.ts';
import type { Scores, SoftmaxCrossEntropy } from './softmaxCrossEntropy.ts';
import type { UpdateRates } from './updateRule.ts';
import { add, dispose, download, float32, picturesOf, runOp, upload } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';

export interface TowerOptions {
  readonly plan: NetworkPlan;
  readonly index: TowerIndex;
  readonly kernels: Kernels;
  readonly parameters: Parameters;
  readonly exchange: Exchange;
  readonly dropout: DropoutRule;
  readonly masks: MaskSource;
  /** Pictures per part of the convolutions. */
  readonly microBatch: number;
  /** The layers that are trained; all, if absent. The others keep their weights to the bit; what they drop in training they still drop. */
  readonly trainOnly?: readonly string[] | undefined;
  /** Adds up what this tower's replicas have; none where there is but one. */
  readonly gradientSum?: GradientSum | undefined;
  readonly observer?: PassObserver;
  /** Monotonic milliseconds. */
  readonly now: () => number;
}

/** What a forward pass leaves for the backward pass; below the lowest trained layer it is freed there. */
interface Tape {
  readonly step: number;
  readonly pictures: number;
  readonly convs: ConvTape;
  readonly denses: readonly { readonly dense: DenseStage; readonly saved: DenseSaved }[];
  /** Input of the last layer. */
  readonly features: Tensor;
}

/** What a tower says of a step before any tower applies it: scores of its pictures, gradients summed over its replicas. */
export interface StepGradients {
  readonly scores: Scores;
  readonly gradients: Gradients;
  /** Of every parameter this tower speaks for; of the whole batch, as the gradients. */
  readonly squaredNorm: number;
}

export class Tower {
  readonly index: TowerIndex;
  /** Milliseconds spent waiting for the peer, ever. */
  exchangeWaitMs = 0;
  /** Milliseconds spent waiting for the replicas once the backward pass was done, ever. */
  sumWaitMs = 0;
  readonly #options: TowerOptions;
  readonly #convs: ConvStack;
  readonly #denses: readonly DenseStage[];
  readonly #logits: LogitsStage;
  readonly #observer: PassObserver;
  /** What came from the peer in this pass: its tensors may lie in the same memory. */
  readonly #received: TensorData[] = [];

  constructor(options: TowerOptions) {
    const { plan, index, kernels, parameters, dropout, masks } = options;
    const { spec: network } = plan;
    this.#options = options;
    this.#observer = options.observer ?? unobserved;
    this.index = index;
    const gradients = gradientsWanted(network, options.trainOnly);
    const wantedOf = ({ spec: { name } }: { spec: { name: string } }): GradientsWanted =>
      gradients.get(name) ?? { parameters: true, input: true };
    const stages = plan.convs.map(
      (conv) => new ConvStage(conv, { network, tower: index, kernels, parameters, wanted: wantedOf(conv) }),
    );
    this.#convs = new ConvStack(stages, { microBatch: options.microBatch, observer: this.#observer });
    const last = plan.denses.at(-1);
    if (last === undefined) throw new Error(`${network.name} has no dense layer`);
    const activation = kernels.activation(network.activation);
    this.#denses = plan.denses
      .slice(0, -1)
      .map((dense) => new DenseStage(dense, { activation, parameters, dropout, masks, wanted: wantedOf(dense) }));
    this.#logits = new LogitsStage(last, { parameters, wanted: wantedOf(last) });
  }

  /**
   * One training pass over images [N,S,S,3] and labels [N], both borrowed: scores and gradients; nothing is applied. They are the whole batch of
   * the step, or a shard of it.
   */
  async computeGradients(step: number, images: Tensor, labels: Tensor, shard?: Shard): Promise<StepGradients> {
    const { logits, tape } = await this.#forward(images, { step, training: true, shard });
    const { softmaxCrossEntropy } = this.#options.kernels;
    const loss = (): ReturnType<SoftmaxCrossEntropy> => softmaxCrossEntropy(logits, labels, shard?.of ?? tape.pictures);
    const { scores, dLogits } = this.#observer.during({ layer: 'loss', phase: 'forward' }, loss);
    logits.dispose();
    const gradients = await this.#backward(dLogits, tape);
    const squaredNorm = this.#observer.during({ layer: 'norm', phase: 'backward' }, () => this.#squaredNorm(gradients));
    this.#releaseReceived();
    return { scores, gradients, squaredNorm };
  }

  /** Scores images without training; `batch` keeps its swaps apart from those of other batches. */
  async evaluate(batch: number, images: Tensor, labels: Tensor): Promise<Scores> {
    const logits = await this.#logitsOf(batch, images);
    const { scores, dLogits } = this.#options.kernels.softmaxCrossEntropy(logits, labels, picturesOf(images));
    dispose(logits, dLogits);
    return scores;
  }

  /** The probability of every class [N * K] for images [N,S,S,3], borrowed; `batch` as in `evaluate`. */
  async predict(batch: number, images: Tensor): Promise<Float32Array> {
    const logits = await this.#logitsOf(batch, images);
    const probabilities = runOp('Softmax', [float32], [logits]);
    const { values } = download(probabilities);
    dispose(logits, probabilities);
    return values;
  }

  /** Applies the gradients, and frees them. */
  applyGradients(gradients: Gradients, rates: (block: ParameterBlock) => UpdateRates): void {
    this.#observer.during({ layer: 'update', phase: 'backward' }, () => {
      this.#options.parameters.update(gradients, rates);
    });
  }

  close(): void {
    this.#convs.close();
  }

  async #logitsOf(batch: number, images: Tensor): Promise<Tensor> {
    const { logits, tape } = await this.#forward(images, { step: batch, training: false });
    this.#convs.release(tape.convs);
    for (const { dense, saved } of tape.denses) dense.release(saved);
    tape.features.dispose();
    this.#releaseReceived();
    return logits;
  }

  async #forward(images: Tensor, pass: Pass): Promise<{ logits: Tensor; tape: Tape }> {
    const pictures = picturesOf(images);
    const tag = { step: pass.step, phase: pass.training ? 'forward' : 'evaluate' } as const;
    const { features: maps, saved: convs } = await this.#convs.forward(images, {
      step: pass.step,
      linkOf: (microBatch) => (site) => this.#send({ ...tag, site, microBatch }),
    });
    let features = maps;
    const denses: Tape['denses'][number][] = [];
    for (const dense of this.#denses) {
      const x = features;
      const { y, saved } = await this.#in(dense, 'forward', () =>
        dense.forward(x, this.#send({ ...tag, site: dense.plan.spec.name, microBatch: 0 }), pass),
      );
      denses.push({ dense, saved });
      features = y;
    }
    const logits = await this.#in(this.#logits, 'forward', () =>
      this.#logits.forward(features, this.#send({ ...tag, site: this.#logits.plan.spec.name, microBatch: 0 })),
    );
    return { logits, tape: { step: pass.step, pictures, convs, denses, features } };
  }

  async #backward(dLogits: Tensor, tape: Tape): Promise<Gradients> {
    const gradients: Gradients = new Map();
    const take = (name: string, gradient: Tensor): void => {
      accumulate(gradients, name, gradient);
    };
    const tag = { step: tape.step, phase: 'backward' } as const;
    const { gradientSum } = this.#options;
    const buckets = gradientSum === undefined ? undefined : new GradientBuckets(gradientSum, tape.step);
    let d = this.#in(this.#logits, 'backward', () => this.#logits.backward(dLogits, tape.features, take));
    dispose(dLogits, tape.features);
    await buckets?.takeLayer(this.#logits.plan.spec.name, gradients);
    for (const { dense, saved } of [...tape.denses].reverse()) {
      const dy = d;
      if (dy === undefined) dense.release(saved);
      else {
        d = await this.#in(dense, 'backward', () =>
          dense.backward(dy, saved, this.#send({ ...tag, site: dense.plan.spec.name, microBatch: 0 }), take),
        );
      }
      await buckets?.takeLayer(dense.plan.spec.name, gradients);
    }
    const unfinished: Gradients = new Map();
    await this.#convs.backward(d, tape.convs, {
      step: tape.step,
      linkOf: (microBatch) => (site) => this.#send({ ...tag, site, microBatch }),
      take,
      taken: (layer, isWhole) => buckets?.takeLayer(layer, isWhole ? gradients : unfinished),
    });
    return buckets === undefined ? gradients : await this.#summed(buckets);
  }

  async #summed(buckets: GradientBuckets): Promise<Gradients> {
    const start = this.#options.now();
    const gradients = await this.#observer.during({ layer: 'replicas', phase: 'backward' }, () => buckets.summed());
    this.sumWaitMs += this.#options.now() - start;
    return gradients;
  }

  /** Hands a tensor to the peer, and times the wait for the peer's. */
  #send(tag: SwapTag): Send {
    const { exchange, now } = this.#options;
    return (mine) => {
      const sending = now();
      const swap = exchange.swap(tag, download(mine));
      this.#observer.crossed('send', sending);
      return async () => {
        const waiting = now();
        const theirs = await swap.received;
        this.exchangeWaitMs += now() - waiting;
        this.#observer.crossed('wait', waiting);
        this.#received.push(theirs);
        return upload(theirs);
      };
    };
  }

  /** At the end of a pass, when no tensor is left that was made of it. */
  #releaseReceived(): void {
    for (const theirs of this.#received.splice(0)) this.#options.exchange.release(theirs);
  }

  #in<T>({ plan }: { plan: { spec: { name: string } } }, phase: Place['phase'], run: () => T): T {
    return this.#observer.during({ layer: plan.spec.name, phase }, run);
  }

  #squaredNorm(gradients: Gradients): number {
    const counted = this.#options.parameters.blocks.flatMap((block) => {
      const gradient = gradients.get(block.name);
      return gradient === undefined || (block.replicated && this.index === 1) ? [] : [gradient];
    });
    return counted.length === 0 ? 0 : this.#options.kernels.squaredNorm(counted);
  }
}

function accumulate(gradients: Gradients, name: string, gradient: Tensor): void {
  const before = gradients.get(name);
  if (before === undefined) {
    gradients.set(name, gradient);
    return;
  }
  gradients.set(name, add(before, gradient));
  dispose(before, gradient);
}
