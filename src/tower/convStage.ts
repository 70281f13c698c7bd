// One convolution of one tower and what follows it, in the paper's order: convolution, ReLU, LRN, overlapping pooling (sections 3.1 to 3.5).
// Invariant: a stage owns what it saved; its backward pass frees each tensor at its last use and gives dx away.

import type { ConvPlan } from '../spec/network.ts';
import { convolution } from './convolution.ts';
import { gatherForward, reduceScatterBackward } from './crossing.ts';
import type { Send } from './crossing.ts';
import type { Kernels } from './kernels.ts';
import { addBias, biasGradient } from './linearMap.ts';
import type { LinearMap } from './linearMap.ts';
import type { Parameters } from './parameters.ts';
import { reluBackward, reluForward } from './relu.ts';
import type { MaxPool } from './maxPool.ts';
import type { ResponseNorm } from './responseNorm.ts';
import { dispose } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';

/** Takes the gradient of a named parameter. */
export type TakeGradient = (name: string, gradient: Tensor) => void;

/** What one forward pass of a stage leaves for its backward pass. */
export interface ConvSaved {
  readonly x: Tensor;
  /** The peer's features, in a crossing. */
  readonly xPeer: Tensor | undefined;
  /** After ReLU. */
  readonly activation: Tensor;
  readonly normed: { readonly y: Tensor; readonly saved: readonly Tensor[] } | undefined;
  readonly pooled: { readonly y: Tensor; readonly workspace?: Tensor } | undefined;
}

export class ConvStage {
  readonly plan: ConvPlan;
  readonly #map: LinearMap;
  readonly #norm: ResponseNorm | undefined;
  readonly #pool: MaxPool | undefined;
  readonly #parameters: Parameters;
  /** The first stage is fed pictures: nobody asks for their gradient. */
  readonly #isFirst: boolean;

  constructor(plan: ConvPlan, { kernels, parameters, isFirst }: { kernels: Kernels; parameters: Parameters; isFirst: boolean }) {
    this.plan = plan;
    this.#map = convolution(plan.spec);
    this.#norm = plan.spec.responseNorm ? kernels.responseNorm(plan.maps.channels) : undefined;
    this.#pool = plan.spec.pool ? kernels.maxPool : undefined;
    this.#parameters = parameters;
    this.#isFirst = isFirst;
  }

  /** Takes x [N,H,W,C]; gives y [N,H',W',C'] and what `backward` or `release` will free. */
  async forward(x: Tensor, send: Send): Promise<{ y: Tensor; saved: ConvSaved }> {
    const { z, xPeer } = await this.#convolve(x, send);
    const activation = reluForward(z);
    z.dispose();
    const normed = this.#norm?.forward(activation);
    const pooled = this.#pool?.forward(normed?.y ?? activation);
    const y = (pooled?.y ?? normed?.y ?? activation).clone();
    return { y, saved: { x, xPeer, activation, normed, pooled } };
  }

  /** Takes dy; hands the parameters' gradients to `take`; gives dx, or nothing in the first stage. */
  async backward(dy: Tensor, saved: ConvSaved, send: Send, take: TakeGradient): Promise<Tensor | undefined> {
    const { activation, normed, pooled } = saved;
    let d = dy;
    if (pooled !== undefined && this.#pool !== undefined) {
      const dPooled = this.#pool.backward(d, { x: normed?.y ?? activation, ...pooled });
      dispose(d, pooled.y, pooled.workspace);
      d = dPooled;
    }
    if (normed !== undefined && this.#norm !== undefined) {
      const dNormed = this.#norm.backward(d, activation, normed.y, normed.saved);
      dispose(d, normed.y, ...normed.saved);
      d = dNormed;
    }
    const dz = reluBackward(d, activation);
    dispose(d, activation);
    const dx = await this.#convolveBackward(dz, saved, send, take);
    dispose(dz, saved.x, saved.xPeer);
    return dx;
  }

  /** Frees what a forward pass saved, where no backward pass follows. */
  release({ x, xPeer, activation, normed, pooled }: ConvSaved): void {
    dispose(x, xPeer, activation, normed?.y, ...(normed?.saved ?? []), pooled?.y, pooled?.workspace);
  }

  close(): void {
    this.#norm?.close();
  }

  async #convolve(x: Tensor, send: Send): Promise<{ z: Tensor; xPeer: Tensor | undefined }> {
    if (this.plan.spec.crosses) return gatherForward(this.#map, this.#crossingWeights(), x, send);
    const product = this.#map.apply(x, this.#weight('weight'));
    const z = addBias(product, this.#weight('bias'));
    product.dispose();
    return { z, xPeer: undefined };
  }

  async #convolveBackward(dz: Tensor, { x, xPeer }: ConvSaved, send: Send, take: TakeGradient): Promise<Tensor | undefined> {
    const { name } = this.plan.spec;
    if (xPeer !== undefined) {
      const { dx, dOwn, dPeer, dBias } = await reduceScatterBackward(this.#map, this.#crossingWeights(), { x, xPeer }, dz, send);
      take(`${name}.weight.own`, dOwn);
      take(`${name}.weight.peer`, dPeer);
      take(`${name}.bias`, dBias);
      return dx;
    }
    const weight = this.#weight('weight');
    take(`${name}.bias`, biasGradient(dz));
    take(`${name}.weight`, this.#map.weightGradient(x, dz, weight.shape));
    return this.#isFirst ? undefined : this.#map.inputGradient(dz, weight, x.shape);
  }

  #weight(part: string): Tensor {
    return this.#parameters.get(`${this.plan.spec.name}.${part}`);
  }

  #crossingWeights(): { own: Tensor; peer: Tensor; bias: Tensor } {
    return { own: this.#weight('weight.own'), peer: this.#weight('weight.peer'), bias: this.#weight('bias') };
  }
}
