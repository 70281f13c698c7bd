// What follows a layer's product z = x * w: bias and nonlinearity, as one kernel with the way back. Of any shape [N,...,C], b [C].
// `rectified` is the paper's ReLU (section 3.1); normalisedActivation.ts has the one that ends in response normalisation (section 3.3).

import { addBias, biasGradient } from './linearMap.ts';
import { reluBackward, reluForward } from './relu.ts';
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

/** y = max(z + b, 0). */
export const rectified: Activation = {
  forward(z, b) {
    const sum = addBias(z, b);
    const y = reluForward(sum);
    sum.dispose();
    return { y, saved: [] };
  },
  backward(dy, { y }) {
    const dz = reluBackward(dy, y);
    return { dz, db: biasGradient(dz) };
  },
  close: () => undefined,
};
