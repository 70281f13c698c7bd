// The paper's update rule (section 5): v <- m v - d r w - r s g, then w <- w + v. Rate r and decay d lie inside the velocity; s scales the
// gradient g alone (clipping; 1 without).
// With m > 0 the decay is folded into the velocity first, v - (d r / m) w, in one pass over memory, and one fused op does the rest.

import { attribute, dispose, float32, multiply, add, runOp, runOpMany, scalar } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';

export interface UpdateRates {
  readonly learningRate: number;
  readonly momentum: number;
  readonly weightDecay: number;
  /** Factor of the gradient, from clipping the norm of all gradients. */
  readonly gradientScale: number;
}

/** Applies one update in place to the variables behind two handles. Nobody may hold a tensor read from them. */
export function applyUpdate(
  { weight, velocity, gradient }: { weight: Tensor; velocity: Tensor; gradient: Tensor },
  rates: UpdateRates,
): void {
  if (rates.momentum > 0) {
    if (rates.weightDecay > 0) decayIntoVelocity(weight, velocity, (rates.weightDecay * rates.learningRate) / rates.momentum);
    momentumStep(weight, velocity, gradient, rates.learningRate * rates.gradientScale, rates.momentum);
  } else {
    const total = withDecay(weight, gradient, rates);
    momentumStep(weight, velocity, total, rates.learningRate, 0);
    total.dispose();
  }
}

const inPlace = [float32, attribute.bool('use_locking', false)];
const momentumAttributes = [...inPlace, attribute.bool('use_nesterov', false)];

/** v <- v - factor w. */
function decayIntoVelocity(weight: Tensor, velocity: Tensor, factor: number): void {
  const w = readVariable(weight);
  const alpha = scalar(factor);
  runOpMany('ResourceApplyGradientDescent', inPlace, [velocity, alpha, w], 0);
  dispose(w, alpha);
}

/** v <- m v - r g; w <- w + v. */
function momentumStep(weight: Tensor, velocity: Tensor, gradient: Tensor, rate: number, momentum: number): void {
  const r = scalar(rate);
  const m = scalar(momentum);
  runOpMany('ResourceApplyKerasMomentum', momentumAttributes, [weight, velocity, r, gradient, m], 0);
  dispose(r, m);
}

/** s g + d w. */
function withDecay(weight: Tensor, gradient: Tensor, { weightDecay, gradientScale }: UpdateRates): Tensor {
  const w = readVariable(weight);
  const d = scalar(weightDecay);
  const s = scalar(gradientScale);
  const decay = multiply(w, d);
  const scaled = multiply(gradient, s);
  const total = add(scaled, decay);
  dispose(w, d, s, decay, scaled);
  return total;
}

function readVariable(handle: Tensor): Tensor {
  return runOp('ReadVariableOp', [attribute.type('dtype', 'float32')], [handle]);
}
