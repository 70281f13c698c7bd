// One convolution of one tower and what follows it, in the paper's order: convolution, ReLU, LRN, overlapping pooling (sections 3.1 to 3.5).
// Invariant: a stage owns what it saved; its backward pass frees each tensor at its last use and gives dx away.

import type { ConvPlan } from '../spec/network.ts';
import { rectified } from './activation.ts';
import type { Activated, Activation } from './activation.ts';
import { convolution } from './convolution.ts';
import { crossingBackward, gatherForward } from './crossing.ts';
import type { BackwardPart, CrossingWeights, Send } from './crossing.ts';
import type { Kernels } from './kernels.ts';
import type { LinearMap } from './linearMap.ts';
import type { MaxPool } from './maxPool.ts';
import type { Parameters } from './parameters.ts';
import { dispose } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';

/** Takes the gradient of a named parameter. */
export type TakeGradient = (name: string, gradient: Tensor) => void;

/** What one forward pass of a stage leaves for its backward pass. */
export interface ConvSaved {
  readonly x: Tensor;
  /** The peer's features, in a crossing. */
  readonly xPeer: Tensor | undefined;
  readonly activated: Activated;
  readonly pooled: { readonly y: Tensor; readonly workspace?: Tensor } | undefined;
}

export class ConvStage {
  readonly plan: ConvPlan;
  readonly #map: LinearMap;
  readonly #activation: Activation;
  readonly #pool: MaxPool | undefined;
  readonly #parameters: Parameters;
  readonly #part: BackwardPart;

  constructor(plan: ConvPlan, { kernels, parameters, part }: { kernels: Kernels; parameters: Parameters; part: BackwardPart }) {
    this.plan = plan;
    this.#map = convolution(plan.spec);
    this.#activation = plan.spec.responseNorm ? kernels.normalisedActivation(plan.maps.channels) : rectified;
    this.#pool = plan.spec.pool ? kernels.maxPool : undefined;
    this.#parameters = parameters;
    this.#part = part;
  }

  /** Takes x [N,H,W,C]; gives y [N,H',W',C'] and what `backward` or `release` will free. */
  async forward(x: Tensor, send: Send): Promise<{ y: Tensor; saved: ConvSaved }> {
    const { z, xPeer } = await this.#convolve(x, send);
    const activated = this.#activation.forward(z, this.#weight('bias'));
    z.dispose();
    const pooled = this.#pool?.forward(activated.y);
    const y = (pooled?.y ?? activated.y).clone();
    return { y, saved: { x, xPeer, activated, pooled } };
  }

  /** Takes dy; hands the gradients of trained parameters to `take`; gives dx, or nothing where no layer below is trained. */
  async backward(dy: Tensor, saved: ConvSaved, send: Send, take: TakeGradient): Promise<Tensor | undefined> {
    const { activated, pooled } = saved;
    let d = dy;
    if (pooled !== undefined && this.#pool !== undefined) {
      d = this.#pool.backward(dy, { x: activated.y, ...pooled });
      dispose(dy, pooled.y, pooled.workspace);
    }
    const { dz, db } = this.#activation.backward(d, activated);
    if (this.#part.trains) take(`${this.plan.spec.name}.bias`, db);
    else db.dispose();
    dispose(d, activated.y, ...activated.saved);
    const dx = await this.#convolveBackward(dz, saved, send, take);
    dispose(dz, saved.x, saved.xPeer);
    return dx;
  }

  /** Frees what a forward pass saved, where no backward pass follows. */
  release({ x, xPeer, activated, pooled }: ConvSaved): void {
    dispose(x, xPeer, activated.y, ...activated.saved, pooled?.y, pooled?.workspace);
  }

  close(): void {
    this.#activation.close();
  }

  async #convolve(x: Tensor, send: Send): Promise<{ z: Tensor; xPeer: Tensor | undefined }> {
    if (this.plan.spec.crosses) return gatherForward(this.#map, this.#crossingWeights(), x, send);
    return { z: this.#map.apply(x, this.#weight('weight')), xPeer: undefined };
  }

  async #convolveBackward(dz: Tensor, { x, xPeer }: ConvSaved, send: Send, take: TakeGradient): Promise<Tensor | undefined> {
    const { name } = this.plan.spec;
    if (xPeer !== undefined) {
      const way = { dz, send, part: this.#part };
      const { dx, gradients } = await crossingBackward(this.#map, this.#crossingWeights(), { x, xPeer }, way);
      if (gradients !== undefined) {
        take(`${name}.weight.own`, gradients.dOwn);
        take(`${name}.weight.peer`, gradients.dPeer);
      }
      return dx;
    }
    const weight = this.#weight('weight');
    if (this.#part.trains) take(`${name}.weight`, this.#map.weightGradient(x, dz, weight.shape));
    return this.#part.passesOn ? this.#map.inputGradient(dz, weight, x.shape) : undefined;
  }

  #weight(part: string): Tensor {
    return this.#parameters.get(`${this.plan.spec.name}.${part}`);
  }

  #crossingWeights(): CrossingWeights {
    return { own: this.#weight('weight.own'), peer: this.#weight('weight.peer') };
  }
}
