// The paper's update rule (section 5): v <- m v - d r w - r s g, then w <- w + v. Rate r and decay d lie inside the velocity; s scales the
// gradient g alone (clipping; 1 without).
// Either TensorFlow's ops, block by block, or one op of ours for all blocks, which goes over each once (native/parameters.cc, ADR 20).

import {
  attribute,
  canRun,
  dispose,
  downloadScalar,
  float32,
  multiply,
  add,
  runOp,
  runOpMany,
  scalar,
  upload,
} from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';
import { Variable } from './variable.ts';

export interface UpdateRates {
  readonly learningRate: number;
  readonly momentum: number;
  readonly weightDecay: number;
  /** Factor of the gradient, from clipping the norm of all gradients. */
  readonly gradientScale: number;
}

/** One block: its variables, the gradient, which is borrowed, and the rates. */
export interface Updated {
  readonly weight: Variable;
  readonly velocity: Variable;
  readonly gradient: Tensor;
  readonly rates: UpdateRates;
}

/** Applies one update to all blocks in place. Nobody may hold a tensor that was lent by one of the variables. */
export type Update = (blocks: readonly Updated[]) => void;

/** One op for all blocks: w, v and g are read once, w and v written once. */
export const nativeUpdate: Update = (blocks) => {
  const values = Float32Array.from(
    blocks.flatMap(({ rates: { learningRate: r, momentum: m, weightDecay: d, gradientScale: s } }) => [m, d * r, r * s]),
  );
  const rates = upload({ shape: [blocks.length, 3], values });
  const inputs = [
    ...blocks.map(({ weight }) => weight.value),
    ...blocks.map(({ velocity }) => velocity.value),
    ...blocks.map(({ gradient }) => gradient),
  ];
  runOpMany('CrosstowerUpdate', [attribute.int('N', blocks.length)], [...inputs, rates], 0);
  rates.dispose();
};

/** Whether the binding has our op, and it writes where the variables are. */
export function hasNativeUpdate(): boolean {
  const [weight, velocity] = [new Variable([1]), new Variable([1])];
  const gradient = scalar(-1);
  const rates = { learningRate: 1, momentum: 0, weightDecay: 0, gradientScale: 1 };
  const works = canRun(() => {
    nativeUpdate([{ weight, velocity, gradient, rates }]);
  });
  const isWritten = works && weight.download()[0] === 1;
  gradient.dispose();
  weight.close();
  velocity.close();
  return isWritten;
}

/** By TensorFlow's ops, on every device. */
export const portableUpdate: Update = (blocks) => {
  const made = new Map<number, Tensor>();
  // Blocks share their rates, and making a scalar costs as much as a small block's op.
  const scalars = (value: number): Tensor => {
    const tensor = made.get(value) ?? scalar(value);
    made.set(value, tensor);
    return tensor;
  };
  for (const block of blocks) {
    block.weight.takeBack();
    block.velocity.takeBack();
    updateBlock(block, scalars);
  }
  dispose(...made.values());
};

/** With m > 0 the decay is folded into the velocity first, v - (d r / m) w, in one pass over memory, and one fused op does the rest. */
function updateBlock({ weight, velocity, gradient, rates }: Updated, scalars: (value: number) => Tensor): void {
  const { learningRate: r, momentum: m, weightDecay: d, gradientScale: s } = rates;
  const [w, v] = [weight.handle, velocity.handle];
  if (m > 0) {
    if (d > 0) runOpMany('ResourceApplyGradientDescent', inPlace, [v, scalars((d * r) / m), weight.value], 0);
    weight.takeBack();
    runOpMany('ResourceApplyKerasMomentum', momentumAttributes, [w, v, scalars(r * s), gradient, scalars(m)], 0);
  } else {
    const total = withDecay(weight.value, gradient, { d: scalars(d), s: scalars(s) });
    weight.takeBack();
    runOpMany('ResourceApplyKerasMomentum', momentumAttributes, [w, v, scalars(r), total, scalars(0)], 0);
    total.dispose();
  }
}

const inPlace = [float32, attribute.bool('use_locking', false)];
const momentumAttributes = [...inPlace, attribute.bool('use_nesterov', false)];

/** s g + d w. */
function withDecay(w: Tensor, gradient: Tensor, { d, s }: { d: Tensor; s: Tensor }): Tensor {
  const decay = multiply(w, d);
  const scaled = multiply(gradient, s);
  const total = add(scaled, decay);
  dispose(decay, scaled);
  return total;
}

/** The squared norm of all gradients together; not finite where one of their values is not. */
export type SquaredNorm = (gradients: readonly Tensor[]) => number;

/** One op for all. */
export const nativeSquaredNorm: SquaredNorm = (gradients) =>
  takeScalar(runOp('CrosstowerSquaredNorm', [attribute.int('N', gradients.length)], gradients));

/** By TensorFlow's op for one, on every device. */
export const portableSquaredNorm: SquaredNorm = (gradients) =>
  gradients.reduce((sum, gradient) => sum + 2 * takeScalar(runOp('L2Loss', [float32], [gradient])), 0);

function takeScalar(x: Tensor): number {
  const value = downloadScalar(x);
  x.dispose();
  return value;
}
