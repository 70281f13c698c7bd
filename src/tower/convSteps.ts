// What follows a convolution, as a chain of steps: bias and activation, LRN, pooling, in the paper's order (sections 3.1, 3.3, 3.4) or in that
// of the author's code, where the activation comes last.
// Invariant: a step borrows its input; what its backward pass needs it saves as tensors of its own, which the chain frees.

import type { TowerIndex } from '../spec/layout.ts';
import type { ConvPlan, NetworkSpec } from '../spec/network.ts';
import { biasOnly, nonlinearities } from './activation.ts';
import type { Activation, Nonlinearity } from './activation.ts';
import type { Link } from './crossing.ts';
import { globalResponseNorm } from './globalResponseNorm.ts';
import type { GlobalResponseNorm } from './globalResponseNorm.ts';
import type { Kernels } from './kernels.ts';
import type { MaxPool } from './maxPool.ts';
import type { ResponseNorm } from './responseNorm.ts';
import type { Tensor } from './tensorflow.ts';

/** The bias of the layer on the way forward, and a taker of its gradient on the way back. */
export interface ConvStep {
  forward(x: Tensor, bias: Tensor, link: Link): Promise<Saving>;
  /** dx from dy; frees nothing. */
  backward(dy: Tensor, saved: readonly Tensor[], link: Link, takeBias: (db: Tensor) => void): Promise<Tensor>;
  close(): void;
}

interface Saving {
  readonly y: Tensor;
  readonly saved: readonly Tensor[];
}

/** The steps of one layer. */
export function convSteps(
  { spec, maps }: ConvPlan,
  { network, kernels, tower }: { network: NetworkSpec; kernels: Kernels; tower: TowerIndex },
): ConvStep[] {
  const { lrn, activation, activationPlace, poolWindow } = network;
  const { channels } = maps;
  const f = nonlinearities[activation];
  const pooling = spec.pool ? [poolStep(kernels.maxPool(poolWindow))] : [];
  if (!spec.responseNorm) return [activationStep(kernels.activation(activation)), ...pooling];
  if (activation === 'relu' && activationPlace === 'before-lrn' && lrn.scope === 'tower') {
    return [activationStep(kernels.normalisedActivation(channels, lrn)), ...pooling];
  }
  const norm =
    lrn.scope === 'tower'
      ? normStep(kernels.responseNorm(channels, lrn))
      : globalNormStep(
          globalResponseNorm(kernels.responseNorm(channels + lrn.radius, lrn), { tower, channels, radius: lrn.radius }),
          `${spec.name}.lrn`,
        );
  return activationPlace === 'before-lrn'
    ? [activationStep(kernels.activation(activation)), norm, ...pooling]
    : [activationStep(biasOnly), norm, ...pooling, nonlinearityStep(f)];
}

function activationStep(activation: Activation): ConvStep {
  return {
    forward(x, bias) {
      const { y, saved } = activation.forward(x, bias);
      return Promise.resolve({ y, saved: [y.clone(), ...saved] });
    },
    backward(dy, [y, ...saved], _link, takeBias) {
      const { dz, db } = activation.backward(dy, { y: present(y), saved });
      takeBias(db);
      return Promise.resolve(dz);
    },
    close: () => {
      activation.close();
    },
  };
}

function nonlinearityStep(f: Nonlinearity): ConvStep {
  return {
    forward(x) {
      const y = f.forward(x);
      return Promise.resolve({ y, saved: [y.clone()] });
    },
    backward: (dy, [y]) => Promise.resolve(f.backward(dy, present(y))),
    close: () => undefined,
  };
}

function normStep(norm: ResponseNorm): ConvStep {
  return {
    forward(x) {
      const { y, saved } = norm.forward(x);
      return Promise.resolve({ y, saved: [x.clone(), y.clone(), ...saved] });
    },
    backward: (dy, [x, y, ...saved]) => Promise.resolve(norm.backward(dy, present(x), present(y), saved)),
    close: () => {
      norm.close();
    },
  };
}

function globalNormStep(norm: GlobalResponseNorm, site: string): ConvStep {
  return {
    forward: (x, _bias, link) => norm.forward(x, link(site)),
    backward: (dy, saved, link) => norm.backward(dy, saved, link(site)),
    close: () => {
      norm.close();
    },
  };
}

function poolStep(pool: MaxPool): ConvStep {
  return {
    forward(x) {
      const { y, workspace } = pool.forward(x);
      return Promise.resolve({ y, saved: [x.clone(), y.clone(), ...(workspace === undefined ? [] : [workspace])] });
    },
    backward: (dy, [x, y, workspace]) =>
      Promise.resolve(pool.backward(dy, { x: present(x), y: present(y), ...(workspace === undefined ? {} : { workspace }) })),
    close: () => undefined,
  };
}

function present(tensor: Tensor | undefined): Tensor {
  if (tensor === undefined) throw new Error('a step went forward without saving');
  return tensor;
}
