// One convolution of one tower and what follows it, in the paper's order: convolution, ReLU, LRN, overlapping pooling (sections 3.1 to 3.5).
// Invariant: a stage owns what it saved; its backward pass frees each tensor at its last use and gives dx away.

import type { TowerIndex } from '../spec/layout.ts';
import type { ConvPlan, NetworkSpec } from '../spec/network.ts';
import { activated, biased } from './activation.ts';
import type { Activated, Activation } from './activation.ts';
import { convolution } from './convolution.ts';
import { crossingBackward, gatherForward } from './crossing.ts';
import type { BackwardPart, CrossingWeights, Send } from './crossing.ts';
import { GlobalResponseNorm } from './globalResponseNorm.ts';
import type { Kernels } from './kernels.ts';
import type { LinearMap } from './linearMap.ts';
import type { MaxPool } from './maxPool.ts';
import { nonlinearities } from './nonlinearity.ts';
import type { Nonlinearity } from './nonlinearity.ts';
import { composedNormalisedActivation } from './normalisedActivation.ts';
import type { Parameters } from './parameters.ts';
import { dispose } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';

/** Takes the gradient of a named parameter. */
export type TakeGradient = (name: string, gradient: Tensor) => void;

/** Opens the swap of a site of this layer: the layer itself, or its response norm. */
export type SendAt = (site: string) => Send;

/** What one forward pass of a stage leaves for its backward pass. */
export interface ConvSaved {
  readonly x: Tensor;
  /** The peer's features, in a crossing. */
  readonly xPeer: Tensor | undefined;
  readonly activated: Activated;
  /** Of a norm over both towers. */
  readonly normed: { readonly y: Tensor; readonly saved: readonly [Tensor, Tensor] } | undefined;
  readonly pooled: { readonly y: Tensor; readonly workspace?: Tensor } | undefined;
  /** Of a nonlinearity after the pooling. */
  readonly last: Tensor | undefined;
}

export interface ConvStageOptions {
  readonly spec: NetworkSpec;
  readonly tower: TowerIndex;
  readonly kernels: Kernels;
  readonly parameters: Parameters;
  readonly part: BackwardPart;
}

export class ConvStage {
  readonly plan: ConvPlan;
  readonly #map: LinearMap;
  /** Bias, and what follows it in this tower alone. */
  readonly #activation: Activation;
  readonly #globalNorm: GlobalResponseNorm | undefined;
  readonly #pool: MaxPool | undefined;
  readonly #last: Nonlinearity | undefined;
  readonly #parameters: Parameters;
  readonly #part: BackwardPart;

  constructor(plan: ConvPlan, { spec, tower, kernels, parameters, part }: ConvStageOptions) {
    const norm = plan.spec.responseNorm ? spec.norm : undefined;
    const comesLast = plan.spec.responseNorm && spec.nonlinearityPlace === 'after-pool';
    this.plan = plan;
    this.#map = convolution(plan.spec);
    this.#last = comesLast ? nonlinearities[spec.nonlinearity] : undefined;
    this.#globalNorm = norm?.scope === 'global' ? new GlobalResponseNorm(plan.maps.channels, { tower, rule: norm }) : undefined;
    const first = comesLast ? biased : activated(spec.nonlinearity);
    if (norm?.scope !== 'tower') this.#activation = first;
    else if (spec.nonlinearity === 'relu' && !comesLast)
      this.#activation = kernels.normalisedActivation(plan.maps.channels, norm);
    else this.#activation = composedNormalisedActivation(kernels.responseNorm(plan.maps.channels, norm), first);
    this.#pool = plan.spec.pool ? kernels.maxPool(spec.poolWindow) : undefined;
    this.#parameters = parameters;
    this.#part = part;
  }

  /** Takes x [N,H,W,C]; gives y [N,H',W',C'] and what `backward` or `release` will free. */
  async forward(x: Tensor, send: SendAt): Promise<{ y: Tensor; saved: ConvSaved }> {
    const { z, xPeer } = await this.#convolve(x, send(this.plan.spec.name));
    const first = this.#activation.forward(z, this.#weight('bias'));
    z.dispose();
    const normed = await this.#globalNorm?.forward(first.y, send(this.#normSite));
    const pooled = this.#pool?.forward(normed?.y ?? first.y);
    const y = (pooled ?? normed ?? first).y;
    const last = this.#last?.forward(y);
    return { y: (last ?? y).clone(), saved: { x, xPeer, activated: first, normed, pooled, last } };
  }

  /** Takes dy; hands the gradients of trained parameters to `take`; gives dx, or nothing where no layer below is trained. */
  async backward(dy: Tensor, saved: ConvSaved, send: SendAt, take: TakeGradient): Promise<Tensor | undefined> {
    const { activated: first, normed, pooled, last } = saved;
    let d = dy;
    if (last !== undefined && this.#last !== undefined) {
      d = this.#last.backward(dy, last);
      dispose(dy, last);
    }
    if (pooled !== undefined && this.#pool !== undefined) {
      const dPooled = d;
      d = this.#pool.backward(dPooled, { x: (normed ?? first).y, ...pooled });
      dispose(dPooled, pooled.y, pooled.workspace);
    }
    if (normed !== undefined && this.#globalNorm !== undefined) {
      const dNormed = d;
      d = await this.#globalNorm.backward(dNormed, { x: first.y, ...normed }, send(this.#normSite));
      dispose(dNormed, normed.y, ...normed.saved);
    }
    const { dz, db } = this.#activation.backward(d, first);
    if (this.#part.trains) take(`${this.plan.spec.name}.bias`, db);
    else db.dispose();
    dispose(d, first.y, ...first.saved);
    const dx = await this.#convolveBackward(dz, saved, send(this.plan.spec.name), take);
    dispose(dz, saved.x, saved.xPeer);
    return dx;
  }

  /** Frees what a forward pass saved, where no backward pass follows. */
  release({ x, xPeer, activated: first, normed, pooled, last }: ConvSaved): void {
    dispose(x, xPeer, first.y, ...first.saved, normed?.y, ...(normed?.saved ?? []), pooled?.y, pooled?.workspace, last);
  }

  close(): void {
    this.#activation.close();
    this.#globalNorm?.close();
  }

  get #normSite(): string {
    return `${this.plan.spec.name}.norm`;
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
