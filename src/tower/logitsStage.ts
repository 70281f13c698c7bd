// The last layer: each tower multiplies its own features by its own rows, and the partial logits are swapped and summed; the bias is added
// once. Both towers then hold the same logits [N,K], so nothing crosses on the way back.

import type { DensePlan } from '../spec/network.ts';
import type { GradientsWanted } from '../spec/trainedLayers.ts';
import type { Send } from './crossing.ts';
import type { TakeGradient } from './convStage.ts';
import { addBias, biasGradient, dense } from './linearMap.ts';
import type { Parameters } from './parameters.ts';
import { add, dispose } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';

export class LogitsStage {
  readonly plan: DensePlan;
  readonly wanted: GradientsWanted;
  readonly #parameters: Parameters;

  constructor(plan: DensePlan, { parameters, wanted }: { parameters: Parameters; wanted: GradientsWanted }) {
    this.plan = plan;
    this.wanted = wanted;
    this.#parameters = parameters;
  }

  /** Borrows x [N,I]; gives the logits of both towers together [N,K]. Addition commutes, so both towers get the same bits. */
  async forward(x: Tensor, send: Send): Promise<Tensor> {
    const partial = dense.apply(x, this.#weight());
    const partialFromPeer = await send(partial)();
    const sum = add(partial, partialFromPeer);
    const logits = addBias(sum, this.#parameters.get(`${this.plan.spec.name}.bias`));
    dispose(partial, partialFromPeer, sum);
    return logits;
  }

  /** Borrows dLogits [N,K] and x; hands the parameters' gradients to `take`, unless it is frozen; gives dx, where it is wanted. */
  backward(dLogits: Tensor, x: Tensor, take: TakeGradient): Tensor | undefined {
    const { name } = this.plan.spec;
    const weight = this.#weight();
    if (this.wanted.parameters) {
      take(`${name}.weight`, dense.weightGradient(x, dLogits, weight.shape));
      take(`${name}.bias`, biasGradient(dLogits));
    }
    if (!this.wanted.input) return undefined;
    return dense.inputGradient(dLogits, weight, x.shape);
  }

  #weight(): Tensor {
    return this.#parameters.get(`${this.plan.spec.name}.weight`);
  }
}
