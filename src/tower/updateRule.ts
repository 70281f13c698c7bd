// The paper's update rule (section 5): v <- m v - d r w - r s g, then w <- w + v. Rate r and decay d lie inside the velocity; s scales the
// gradient g alone (clipping; 1 without).
// With m > 0 the decay is folded into the velocity first, v - (d r / m) w, in one pass over memory, and one fused op does the rest.

import { attribute, dispose, float32, multiply, add, runOp, runOpMany } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';

export interface UpdateRates {
  readonly learningRate: number;
  readonly momentum: number;
  readonly weightDecay: number;
  /** Factor of the gradient, from clipping the norm of all gradients. */
  readonly gradientScale: number;
}

/** Handles of two variables, and the gradient. */
interface Updated {
  readonly weight: Tensor;
  readonly velocity: Tensor;
  readonly gradient: Tensor;
}

/** Lends a number as a scalar on the device: blocks share their rates, and making a scalar costs as much as a small block's op. */
export type Scalars = (value: number) => Tensor;

/** Applies one update in place to the variables behind two handles. Nobody may hold a tensor read from them. */
export function applyUpdate({ weight, velocity, gradient }: Updated, rates: UpdateRates, scalars: Scalars): void {
  if (rates.momentum > 0) {
    if (rates.weightDecay > 0)
      decayIntoVelocity(weight, velocity, scalars((rates.weightDecay * rates.learningRate) / rates.momentum));
    momentumStep({ weight, velocity, gradient }, scalars(rates.learningRate * rates.gradientScale), scalars(rates.momentum));
  } else {
    const total = withDecay(weight, gradient, { d: scalars(rates.weightDecay), s: scalars(rates.gradientScale) });
    momentumStep({ weight, velocity, gradient: total }, scalars(rates.learningRate), scalars(0));
    total.dispose();
  }
}

const inPlace = [float32, attribute.bool('use_locking', false)];
const momentumAttributes = [...inPlace, attribute.bool('use_nesterov', false)];

/** v <- v - factor w. */
function decayIntoVelocity(weight: Tensor, velocity: Tensor, factor: Tensor): void {
  const w = readVariable(weight);
  runOpMany('ResourceApplyGradientDescent', inPlace, [velocity, factor, w], 0);
  w.dispose();
}

/** v <- m v - r g; w <- w + v. */
function momentumStep({ weight, velocity, gradient }: Updated, r: Tensor, m: Tensor): void {
  runOpMany('ResourceApplyKerasMomentum', momentumAttributes, [weight, velocity, r, gradient, m], 0);
}

/** s g + d w. */
function withDecay(weight: Tensor, gradient: Tensor, { d, s }: { d: Tensor; s: Tensor }): Tensor {
  const w = readVariable(weight);
  const decay = multiply(w, d);
  const scaled = multiply(gradient, s);
  const total = add(scaled, decay);
  dispose(w, decay, scaled);
  return total;
}

function readVariable(handle: Tensor): Tensor {
  return runOp('ReadVariableOp', [attribute.type('dtype', 'float32')], [handle]);
}
