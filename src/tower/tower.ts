// One tower: half of every layer's kernels, fed the same pictures as the other half (paper, section 3.5 and figure 2).
// Its passes are its own code, not tfjs's tape: the tape is synchronous and cannot wait for the peer at a crossing.
// Pictures go through the convolutions in parts of `microBatch`, so that feature maps stay in cache; the dense layers see the whole batch. While what
// one part of them sends at the crossing travels, the next part comes to it.

import type { Exchange, SwapTag } from '../spec/exchange.ts';
import { failpoint } from '../spec/failpoint.ts';
import type { ParameterBlock, TowerIndex } from '../spec/layout.ts';
import type { NetworkPlan } from '../spec/network.ts';
import type { GradientSum } from '../spec/gradientSum.ts';
import type { Shard } from '../spec/shards.ts';
import { gradientsWanted } from '../spec/trainedLayers.ts';
import type { GradientsWanted } from '../spec/trainedLayers.ts';
import { ConvStage } from './convStage.ts';
import type { ConvForward, ConvSaved, TakeGradient } from './convStage.ts';
import type { Link, Send, Underway } from './crossing.ts';
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
import { add, dispose, download, float32, picturesOf, reshape, runOp, upload } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';
import tf from '@tensorflow/tfjs-node-gpu';

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
  readonly convs: readonly (readonly ConvSaved[])[];
  readonly denses: readonly DenseSaved[];
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
  readonly #convs: readonly ConvStage[];
  /** Where in them a part waits for the peer: at the crossing, or the last one where there is none. */
  readonly #waitsAt: number;
  readonly #denses: readonly DenseStage[];
  readonly #logits: LogitsStage;
  readonly #observer: PassObserver;

  constructor(options: TowerOptions) {
    const { plan, index, kernels, parameters, dropout, masks } = options;
    const { spec: network } = plan;
    this.#options = options;
    this.#observer = options.observer ?? unobserved;
    this.index = index;
    const gradients = gradientsWanted(network, options.trainOnly);
    const wantedOf = ({ spec: { name } }: { spec: { name: string } }): GradientsWanted =>
      gradients.get(name) ?? { parameters: true, input: true };
    this.#convs = plan.convs.map(
      (conv) => new ConvStage(conv, { network, tower: index, kernels, parameters, wanted: wantedOf(conv) }),
    );
    const crossing = plan.convs.findIndex(({ spec }) => spec.crosses);
    this.#waitsAt = crossing < 0 ? plan.convs.length - 1 : crossing;
    const last = plan.denses.at(-1);
    if (last === undefined) throw new Error(`${network.name} has no dense layer`);
    const { activation } = network;
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
    for (const conv of this.#convs) conv.close();
  }

  async #logitsOf(batch: number, images: Tensor): Promise<Tensor> {
    const { logits, tape } = await this.#forward(images, { step: batch, training: false });
    for (const part of tape.convs) part.forEach((saved, i) => this.#convs[i]?.release(saved));
    tape.denses.forEach((saved, i) => this.#denses[i]?.release(saved));
    tape.features.dispose();
    return logits;
  }

  async #forward(images: Tensor, pass: Pass): Promise<{ logits: Tensor; tape: Tape }> {
    const pictures = picturesOf(images);
    const tag = { step: pass.step, phase: pass.training ? 'forward' : 'evaluate' } as const;
    const convs: ConvSaved[][] = [];
    const parts: Tensor[] = [];
    await overlapping(
      this.#microBatches(pictures),
      async (range, microBatch) => {
        const saves: ConvSaved[] = [];
        const link: Link = (site) => this.#send({ ...tag, site, microBatch });
        const x = await this.#convsForward(0, this.#waitsAt, slicePictures(images, range), { saves, link, step: pass.step });
        const conv = this.#conv(this.#waitsAt);
        return { saves, link, underway: this.#in(conv, 'forward', () => conv.forward(x, link)) };
      },
      async ({ saves, link, underway }) => {
        const part = { saves, link, step: pass.step };
        const x = await this.#finishForward(this.#waitsAt, underway, part);
        parts.push(await this.#convsForward(this.#waitsAt + 1, this.#convs.length, x, part));
        convs.push(saves);
      },
    );
    let features = flatten(parts);
    const denses: DenseSaved[] = [];
    for (const dense of this.#denses) {
      const x = features;
      const { y, saved } = await this.#in(dense, 'forward', () =>
        dense.forward(x, this.#send({ ...tag, site: dense.plan.spec.name, microBatch: 0 }), pass),
      );
      denses.push(saved);
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
    for (const [i, dense] of [...this.#denses.entries()].reverse()) {
      const saved = savedAt(tape.denses, i);
      const dy = d;
      if (dy === undefined) dense.release(saved);
      else {
        d = await this.#in(dense, 'backward', () =>
          dense.backward(dy, saved, this.#send({ ...tag, site: dense.plan.spec.name, microBatch: 0 }), take),
        );
      }
      await buckets?.takeLayer(dense.plan.spec.name, gradients);
    }
    const features = d;
    const parts = this.#microBatches(tape.pictures);
    const unfinished: Gradients = new Map();
    await overlapping(
      parts,
      async (range, microBatch) => {
        // A convolution's gradients are whole after its last part only.
        const whole = microBatch === parts.length - 1 ? gradients : unfinished;
        const part: BackwardPart = {
          step: tape.step,
          saves: savedAt(tape.convs, microBatch),
          link: (site) => this.#send({ ...tag, site, microBatch }),
          take,
          layerIsTaken: (layer) => buckets?.takeLayer(layer, whole),
        };
        const dy = features === undefined ? undefined : unflatten(features, range, this.#convs.at(-1));
        const d = await this.#convsBackward(this.#convs.length - 1, this.#waitsAt, dy, part);
        return { part, underway: await this.#beginBackward(this.#waitsAt, d, part) };
      },
      async ({ part, underway }) => {
        const d = await this.#finishBackward(this.#waitsAt, underway);
        const dx = await this.#convsBackward(this.#waitsAt - 1, -1, d, part);
        dx?.dispose();
      },
    );
    features?.dispose();
    return buckets === undefined ? gradients : await this.#summed(buckets);
  }

  /** Convolutions `from` to `to`, without it; takes x, gives the maps of the last one. */
  async #convsForward(from: number, to: number, x: Tensor, part: ForwardPart): Promise<Tensor> {
    let maps = x;
    for (let i = from; i < to; i++) {
      const [conv, given] = [this.#conv(i), maps];
      const underway = this.#in(conv, 'forward', () => conv.forward(given, part.link));
      maps = await this.#finishForward(i, underway, part);
    }
    return maps;
  }

  async #finishForward(i: number, underway: Underway<ConvForward>, { saves, step }: ForwardPart): Promise<Tensor> {
    const conv = this.#conv(i);
    const { y, saved } = await this.#in(conv, 'forward', () => underway.finish());
    saves.push(saved);
    failpoint(`forward.${conv.plan.spec.name}`, step);
    return y;
  }

  /** Convolutions `from` down to `to`, without it; takes dy, gives dx of the last one, where it is wanted. */
  async #convsBackward(from: number, to: number, dy: Tensor | undefined, part: BackwardPart): Promise<Tensor | undefined> {
    let d = dy;
    for (let i = from; i > to; i--) d = await this.#finishBackward(i, await this.#beginBackward(i, d, part));
    return d;
  }

  async #beginBackward(i: number, dy: Tensor | undefined, part: BackwardPart): Promise<Underway<Tensor> | undefined> {
    const { step, saves, link, take, layerIsTaken } = part;
    const conv = this.#conv(i);
    const saved = savedAt(saves, i);
    failpoint(`backward.${conv.plan.spec.name}`, step);
    if (dy === undefined) conv.release(saved);
    const underway = dy === undefined ? undefined : await this.#in(conv, 'backward', () => conv.backward(dy, saved, link, take));
    await layerIsTaken(conv.plan.spec.name);
    return underway;
  }

  async #finishBackward(i: number, underway: Underway<Tensor> | undefined): Promise<Tensor | undefined> {
    return underway === undefined ? undefined : this.#in(this.#conv(i), 'backward', () => underway.finish());
  }

  #conv(i: number): ConvStage {
    const conv = this.#convs[i];
    if (conv === undefined) throw new Error(`there is no convolution ${String(i)}`);
    return conv;
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
        return upload(theirs);
      };
    };
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

  #microBatches(pictures: number): PictureRange[] {
    const size = this.#options.microBatch;
    return Array.from({ length: Math.ceil(pictures / size) }, (_, i) => ({
      start: i * size,
      count: Math.min(size, pictures - i * size),
    }));
  }
}

/** A part of the batch on its way through the convolutions. */
interface ForwardPart {
  readonly step: number;
  readonly saves: ConvSaved[];
  readonly link: Link;
}

/** And on its way back. */
interface BackwardPart {
  readonly step: number;
  readonly saves: readonly ConvSaved[];
  readonly link: Link;
  readonly take: TakeGradient;
  /** The layer's gradients have been taken, for this part. */
  readonly layerIsTaken: (layer: string) => Promise<void> | undefined;
}

/** Does `begin` and `end` for every part, in their order, but `begin` of the next part before `end` of the one before: what `begin` sends travels meanwhile. */
async function overlapping<Part, Begun>(
  parts: readonly Part[],
  begin: (part: Part, index: number) => Promise<Begun>,
  end: (begun: Begun) => Promise<void>,
): Promise<void> {
  let endOfLast = (): Promise<void> => Promise.resolve();
  for (const [index, part] of parts.entries()) {
    const begun = await begin(part, index);
    await endOfLast();
    endOfLast = () => end(begun);
  }
  await endOfLast();
}

interface PictureRange {
  readonly start: number;
  readonly count: number;
}

function slicePictures(x: Tensor, { start, count }: PictureRange): Tensor {
  if (count === x.shape[0]) return x.clone();
  return tf.slice(x, [start, ...x.shape.slice(1).map(() => 0)], [count, ...x.shape.slice(1)]);
}

/** Maps of all parts [n,H,W,C] as the features of all pictures [N,H*W*C]; frees the parts. */
function flatten(parts: readonly Tensor[]): Tensor {
  const rows = parts.map((part) => reshape(part, [picturesOf(part), -1]));
  const [only] = rows;
  const features = rows.length === 1 && only !== undefined ? only.clone() : tf.concat(rows, 0);
  dispose(...parts, ...rows);
  return features;
}

function unflatten(features: Tensor, range: PictureRange, stage: ConvStage | undefined): Tensor {
  if (stage === undefined) throw new Error('the network has no convolution');
  const { height, width, channels } = stage.plan.output;
  const rows = slicePictures(features, range);
  const maps = reshape(rows, [range.count, height, width, channels]);
  rows.dispose();
  return maps;
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

function savedAt<Saved>(saves: readonly Saved[], index: number): Saved {
  const saved = saves[index];
  if (saved === undefined) throw new Error(`the forward pass saved nothing at ${String(index)}`);
  return saved;
}
