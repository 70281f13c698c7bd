// The last layer: each tower multiplies its own features by its own rows, and the partial logits are swapped and summed; the bias is added
// once. Both towers then hold the same logits [N,K], so nothing crosses on the way back.

import type { DensePlan } from '../spec/network.ts';
import type { BackwardPart, Send } from './crossing.ts';
import type { TakeGradient } from './convStage.ts';
import { addBias, biasGradient, dense } from './linearMap.ts';
import type { Parameters } from './parameters.ts';
import { add, dispose } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';

export class LogitsStage {
  readonly plan: DensePlan;
  readonly #parameters: Parameters;
  readonly #part: BackwardPart;

  constructor(plan: DensePlan, { parameters, part }: { parameters: Parameters; part: BackwardPart }) {
    this.plan = plan;
    this.#parameters = parameters;
    this.#part = part;
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

  /** Borrows dLogits [N,K] and x; hands the gradients of trained parameters to `take`; gives dx, or nothing where no layer below is trained. */
  backward(dLogits: Tensor, x: Tensor, take: TakeGradient): Tensor | undefined {
    const { name } = this.plan.spec;
    const weight = this.#weight();
    if (this.#part.trains) {
      take(`${name}.weight`, dense.weightGradient(x, dLogits, weight.shape));
      take(`${name}.bias`, biasGradient(dLogits));
    }
    return this.#part.passesOn ? dense.inputGradient(dLogits, weight, x.shape) : undefined;
  }

  #weight(): Tensor {
    return this.#parameters.get(`${this.plan.spec.name}.weight`);
  }
}
