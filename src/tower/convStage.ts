// One convolution of one tower and what follows it: activation, LRN, pooling (paper, sections 3.1 to 3.5; convSteps.ts has their order).
// Invariant: a stage owns what it saved; its backward pass frees each tensor at its last use and gives dx away.

import type { TowerIndex } from '../spec/layout.ts';
import type { ConvPlan, NetworkSpec } from '../spec/network.ts';
import type { GradientsWanted } from '../spec/trainedLayers.ts';
import { convSteps } from './convSteps.ts';
import type { ConvStep } from './convSteps.ts';
import { gatherForward, reduceScatterBackward } from './crossing.ts';
import type { CrossingWeights, Link, Underway } from './crossing.ts';
import type { Kernels } from './kernels.ts';
import type { LinearMap } from './linearMap.ts';
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
  /** By step. */
  readonly steps: readonly (readonly Tensor[])[];
}

/** What a forward pass of a stage gives: y [N,H',W',C']. */
export interface ConvForward {
  readonly y: Tensor;
  readonly saved: ConvSaved;
}

export interface ConvStageOptions {
  readonly network: NetworkSpec;
  readonly tower: TowerIndex;
  readonly kernels: Kernels;
  readonly parameters: Parameters;
  readonly wanted: GradientsWanted;
}

export class ConvStage {
  readonly plan: ConvPlan;
  readonly wanted: GradientsWanted;
  readonly #map: LinearMap;
  readonly #steps: readonly ConvStep[];
  readonly #parameters: Parameters;

  constructor(plan: ConvPlan, { parameters, wanted, ...options }: ConvStageOptions) {
    this.plan = plan;
    this.wanted = wanted;
    this.#map = options.kernels.convolution(plan.spec);
    this.#steps = convSteps(plan, options);
    this.#parameters = parameters;
  }

  /** Takes x [N,H,W,C]; gives y [N,H',W',C'] and what `backward` or `release` will free. In a crossing x is on its way when it returns. */
  forward(x: Tensor, link: Link): Underway<ConvForward> {
    const convolving = this.#convolve(x, link);
    return {
      finish: async () => {
        const { z, xPeer } = await convolving.finish();
        const bias = this.#weight('bias');
        const steps: (readonly Tensor[])[] = [];
        let y = z;
        for (const step of this.#steps) {
          const result = await step.forward(y, bias, link);
          y.dispose();
          y = result.y;
          steps.push(result.saved);
        }
        return { y, saved: { x, xPeer, steps } };
      },
    };
  }

  /** Takes dy; hands the parameters' gradients to `take`, unless it is frozen; then gives dx, where it is wanted: in a crossing it is under way. */
  async backward(dy: Tensor, saved: ConvSaved, link: Link, take: TakeGradient): Promise<Underway<Tensor> | undefined> {
    const takeBias = (db: Tensor): void => {
      if (this.wanted.parameters) take(`${this.plan.spec.name}.bias`, db);
      else db.dispose();
    };
    let d = dy;
    for (const [i, step] of [...this.#steps.entries()].reverse()) {
      const tensors = saved.steps[i] ?? [];
      const dx = await step.backward(d, tensors, link, takeBias);
      dispose(d, ...tensors);
      d = dx;
    }
    const dx = this.#convolveBackward(d, saved, link, take);
    dispose(d, saved.x, saved.xPeer);
    return dx;
  }

  /** Frees what a forward pass saved, where no backward pass follows. */
  release({ x, xPeer, steps }: ConvSaved): void {
    dispose(x, xPeer, ...steps.flat());
  }

  close(): void {
    for (const step of this.#steps) step.close();
  }

  #convolve(x: Tensor, link: Link): Underway<{ z: Tensor; xPeer: Tensor | undefined }> {
    const { crosses, name } = this.plan.spec;
    if (crosses) return gatherForward(this.#map, this.#crossingWeights(), x, link(name));
    return done({ z: this.#map.apply(x, this.#weight('weight')), xPeer: undefined });
  }

  #convolveBackward(dz: Tensor, { x, xPeer }: ConvSaved, link: Link, take: TakeGradient): Underway<Tensor> | undefined {
    const { name } = this.plan.spec;
    if (xPeer !== undefined) {
      const { weights, input } = reduceScatterBackward(
        this.#map,
        this.#crossingWeights(),
        { x, xPeer },
        dz,
        link(name),
        this.wanted,
      );
      if (weights !== undefined) {
        take(`${name}.weight.own`, weights.dOwn);
        take(`${name}.weight.peer`, weights.dPeer);
      }
      return input;
    }
    const weight = this.#weight('weight');
    if (this.wanted.parameters) take(`${name}.weight`, this.#map.weightGradient(x, dz, weight.shape));
    return this.wanted.input ? done(this.#map.inputGradient(dz, weight, x.shape)) : undefined;
  }

  #weight(part: string): Tensor {
    return this.#parameters.get(`${this.plan.spec.name}.${part}`);
  }

  #crossingWeights(): CrossingWeights {
    return { own: this.#weight('weight.own'), peer: this.#weight('weight.peer') };
  }
}

/** What needs nothing of the peer. */
function done<T>(result: T): Underway<T> {
  return { finish: () => Promise.resolve(result) };
}
