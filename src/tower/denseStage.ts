// One hidden fully connected layer of one tower: it gathers the features of both towers, multiplies, then activation and dropout (paper, sections
// 3.5 and 4.2). The last layer, which sums partial logits instead, is logitsStage.ts.
// Features [N,I] in, units [N,O] out. Invariant as in convStage.ts: a stage owns what it saved.

import type { DensePlan } from '../spec/network.ts';
import type { Shard } from '../spec/shards.ts';
import type { GradientsWanted } from '../spec/trainedLayers.ts';
import type { Activation } from './activation.ts';
import { gatherForward, reduceScatterBackward } from './crossing.ts';
import type { CrossingWeights, Send } from './crossing.ts';
import type { TakeGradient } from './convStage.ts';
import { dropoutAtTest, dropoutBackward, dropoutForward, trainingMask } from './dropout.ts';
import type { DropoutRule, MaskSource } from './dropout.ts';
import { dense } from './linearMap.ts';
import type { Parameters } from './parameters.ts';
import { dispose, picturesOf } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';

export interface DenseSaved {
  readonly x: Tensor;
  readonly xPeer: Tensor;
  readonly activation: Tensor;
  /** None where nothing is dropped. */
  readonly mask: Tensor | undefined;
}

/** What a forward pass is of. */
export interface Pass {
  readonly step: number;
  readonly training: boolean;
  /** Which rows of the step's batch it sees; all, if absent. */
  readonly shard?: Shard | undefined;
}

export interface DenseStageOptions {
  readonly activation: Activation;
  readonly parameters: Parameters;
  readonly dropout: DropoutRule;
  readonly masks: MaskSource;
  readonly wanted: GradientsWanted;
}

export class DenseStage {
  readonly plan: DensePlan;
  readonly wanted: GradientsWanted;
  readonly #parameters: Parameters;
  readonly #dropout: DropoutRule;
  readonly #masks: MaskSource;
  readonly #activation: Activation;

  constructor(plan: DensePlan, options: DenseStageOptions) {
    this.plan = plan;
    this.wanted = options.wanted;
    this.#activation = options.activation;
    this.#parameters = options.parameters;
    this.#dropout = options.dropout;
    this.#masks = options.masks;
  }

  /** Takes x; gives y and what `backward` or `release` will free. A training pass drops units by the mask of its step. */
  async forward(x: Tensor, send: Send, pass: Pass): Promise<{ y: Tensor; saved: DenseSaved }> {
    const gathered = gatherForward(dense, this.#weights(), x, send);
    // Drawn while the features travel.
    const mask = this.#mask(picturesOf(x), pass);
    const { z, xPeer } = await gathered.finish();
    const { y: activation } = this.#activation.forward(z, this.#parameters.get(`${this.plan.spec.name}.bias`));
    z.dispose();
    return { y: this.#drop(activation, mask, pass), saved: { x, xPeer, activation, mask } };
  }

  /** Takes dy; hands the parameters' gradients to `take`, unless it is frozen; gives dx, where it is wanted. */
  async backward(dy: Tensor, saved: DenseSaved, send: Send, take: TakeGradient): Promise<Tensor | undefined> {
    const { name } = this.plan.spec;
    const { x, xPeer, activation, mask } = saved;
    const dActivation = mask === undefined ? dy.clone() : dropoutBackward(dy, mask);
    const { dz, db } = this.#activation.backward(dActivation, { y: activation, saved: [] });
    if (this.wanted.parameters) take(`${name}.bias`, db);
    else db.dispose();
    dispose(dy, dActivation, mask, activation);
    const { weights, input } = reduceScatterBackward(dense, this.#weights(), { x, xPeer }, dz, send, this.wanted);
    dispose(dz, x, xPeer);
    if (weights !== undefined) {
      take(`${name}.weight.own`, weights.dOwn);
      take(`${name}.weight.peer`, weights.dPeer);
    }
    return input?.finish();
  }

  /** Frees what a forward pass saved, where no backward pass follows. */
  release({ x, xPeer, activation, mask }: DenseSaved): void {
    dispose(x, xPeer, activation, mask);
  }

  /** The mask of a pass over `pictures`; none where it drops nothing. */
  #mask(pictures: number, { step, training, shard }: Pass): Tensor | undefined {
    if (!training || this.#dropout.rate === 0) return undefined;
    const drawn = this.#masks({ layer: this.plan.spec.name, step, shape: [pictures, this.plan.units], shard });
    const mask = trainingMask(drawn, this.#dropout);
    drawn.dispose();
    return mask;
  }

  #drop(activation: Tensor, mask: Tensor | undefined, { training }: Pass): Tensor {
    if (mask !== undefined) return dropoutForward(activation, mask);
    return training || this.#dropout.rate === 0 ? activation.clone() : dropoutAtTest(activation, this.#dropout);
  }

  #weights(): CrossingWeights {
    const { name } = this.plan.spec;
    return {
      own: this.#parameters.get(`${name}.weight.own`),
      peer: this.#parameters.get(`${name}.weight.peer`),
    };
  }
}
