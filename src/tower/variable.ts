// A tensor that is written in place: TensorFlow's resource variable.
// Invariant: what `value` lends shares the variable's memory. An op that takes the handle writes there only while nothing is lent (else
// TensorFlow gives the variable other memory first); an op of ours that takes the value writes there at once.

import { attribute, download, runOp, runOpMany } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';
import tf from '@tensorflow/tfjs-node-gpu';

const dtype = attribute.type('dtype', 'float32');
/** TensorFlow's name for a variable that lives as long as its handle. */
const anonymous = attribute.string('shared_name', 'cd2c89b7-88b7-44c8-ad83-06c2a9158347');

export class Variable {
  readonly handle: Tensor;
  #lent: Tensor | undefined;

  /** All zero. */
  constructor(shape: readonly number[]) {
    const attributes = [dtype, attribute.shape('shape', shape), attribute.string('container', ''), anonymous];
    this.handle = tf.keep(runOp('VarHandleOp', attributes, []));
    this.assign(() => tf.zeros([...shape]));
  }

  /** Lends the values, until they are taken back. */
  get value(): Tensor {
    this.#lent ??= tf.keep(runOp('ReadVariableOp', [dtype], [this.handle]));
    return this.#lent;
  }

  /** Nobody has the values any more. */
  takeBack(): void {
    this.#lent?.dispose();
    this.#lent = undefined;
  }

  /** Copies the values to the host. */
  download(): Float32Array {
    const value = runOp('ReadVariableOp', [dtype], [this.handle]);
    const { values } = download(value);
    value.dispose();
    return values;
  }

  /** Replaces the values by what `make` makes, in memory that is the variable's alone. */
  assign(make: () => Tensor): void {
    this.takeBack();
    tf.tidy(() => {
      // The sum is a tensor of its own, whatever the host still has of what was made.
      const own = tf.add(make(), 0);
      runOpMany('AssignVariableOp', [dtype, attribute.bool('validate_shape', false)], [this.handle, own], 0);
    });
  }

  close(): void {
    this.takeBack();
    this.handle.dispose();
  }
}
