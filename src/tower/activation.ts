// What follows a layer's product z = x * w: bias and nonlinearity, as one kernel with the way back. Of any shape [N,...,C], b [C].
// normalisedActivation.ts has the one that ends in response normalisation (paper, section 3.3).

import type { NonlinearityName } from '../spec/network.ts';
import { addBias, biasGradient } from './linearMap.ts';
import { nonlinearities } from './nonlinearity.ts';
import type { Tensor } from './tensorflow.ts';

/** What a forward pass gives away; both are freed after the backward pass. */
export interface Activated {
  readonly y: Tensor;
  /** What the backward pass needs besides y. */
  readonly saved: readonly Tensor[];
}

export interface Activation {
  /** y from z and the bias b, both borrowed. */
  forward(z: Tensor, b: Tensor): Activated;
  /** dz and db from dy; frees nothing. */
  backward(dy: Tensor, activated: Activated): { dz: Tensor; db: Tensor };
  /** Frees the layer's constants. */
  close(): void;
}

/** y = f(z + b). */
export function activated(name: NonlinearityName): Activation {
  const nonlinearity = nonlinearities[name];
  return {
    forward(z, b) {
      const sum = addBias(z, b);
      const y = nonlinearity.forward(sum);
      sum.dispose();
      return { y, saved: [] };
    },
    backward(dy, { y }) {
      const dz = nonlinearity.backward(dy, y);
      return { dz, db: biasGradient(dz) };
    },
    close: () => undefined,
  };
}

/** y = z + b, where the nonlinearity comes later. */
export const biased: Activation = {
  forward: (z, b) => ({ y: addBias(z, b), saved: [] }),
  backward: (dy) => ({ dz: dy.clone(), db: biasGradient(dy) }),
  close: () => undefined,
};
