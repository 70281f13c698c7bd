// The weights and velocities of one tower, as TensorFlow resource variables that are updated in place.
// Invariant: `get` lends a tensor that shares the variable's memory; it is valid until the next update or load, which take all of them back
// (a variable with a reader would be copied before it is written).

import type { RunConfig } from '../spec/config.ts';
import { failpoint } from '../spec/failpoint.ts';
import { initialDraw } from '../spec/initialisation.ts';
import { randomKey } from '../spec/random.ts';
import { sizeOf } from '../spec/layout.ts';
import type { ParameterBlock, TowerIndex } from '../spec/layout.ts';
import { applyUpdate } from './updateRule.ts';
import type { UpdateRates } from './updateRule.ts';
import { attribute, dispose, download, runOp, runOpMany, scalar, upload } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';
import tf from '@tensorflow/tfjs-node-gpu';

/** Gradients by parameter name. */
export type Gradients = Map<string, Tensor>;

export type ParameterSet = 'weights' | 'momentum';

interface Variable {
  readonly block: ParameterBlock;
  readonly weight: Tensor;
  readonly velocity: Tensor;
}

const dtype = attribute.type('dtype', 'float32');
/** TensorFlow's name for a variable that lives as long as its handle. */
const anonymous = attribute.string('shared_name', 'cd2c89b7-88b7-44c8-ad83-06c2a9158347');

export class Parameters {
  readonly blocks: readonly ParameterBlock[];
  readonly #variables: ReadonlyMap<string, Variable>;
  readonly #lent = new Map<string, Tensor>();

  /** Makes the variables of `blocks`, all zero. */
  constructor(blocks: readonly ParameterBlock[]) {
    this.blocks = blocks;
    this.#variables = new Map(
      blocks.map((block) => [block.name, { block, weight: makeVariable(block.shape), velocity: makeVariable(block.shape) }]),
    );
  }

  /** Draws the weights: each block by a key of its own, so that neither order nor thread count matters. */
  initialise(init: RunConfig['init'], seed: number, tower: TowerIndex): void {
    for (const { block, weight } of this.#variables.values()) {
      const { sd, bias } = initialDraw(init, block);
      const values = tf.tidy(() => {
        if (block.role === 'bias') return tf.fill([...block.shape], bias);
        const key = randomKey(seed, 'init', `${block.name} tower ${String(tower)}`);
        const normal = runOp('StatelessRandomNormal', normalAttributes, [
          tf.tensor1d([...block.shape], 'int32'),
          tf.tensor1d(Int32Array.from(key), 'int32'),
        ]);
        return tf.mul(normal, sd);
      });
      assign(weight, values);
      values.dispose();
    }
    this.#takeBack();
  }

  /** Lends the current weights of a block. */
  get(name: string): Tensor {
    const lent = this.#lent.get(name);
    if (lent !== undefined) return lent;
    const value = tf.keep(read(this.#variable(name).weight));
    this.#lent.set(name, value);
    return value;
  }

  /** One step of the update rule on every block that has a gradient; frees the gradients. */
  update(gradients: Gradients, rates: (block: ParameterBlock) => UpdateRates): void {
    this.#takeBack();
    const made = new Map<number, Tensor>();
    const scalars = (value: number): Tensor => {
      const tensor = made.get(value) ?? scalar(value);
      made.set(value, tensor);
      return tensor;
    };
    for (const [name, gradient] of gradients) {
      const { block, weight, velocity } = this.#variable(name);
      applyUpdate({ weight, velocity, gradient }, rates(block), scalars);
      gradient.dispose();
      failpoint(`update.${name}`);
    }
    gradients.clear();
    dispose(...made.values());
  }

  /** Copies one block's values to the host. */
  save(name: string, set: ParameterSet): Float32Array {
    const { weight, velocity } = this.#variable(name);
    const value = read(set === 'weights' ? weight : velocity);
    const { values } = download(value);
    value.dispose();
    return values;
  }

  /** Replaces one block's values; throws where their number does not fit. */
  load(name: string, set: ParameterSet, values: Float32Array): void {
    const { block, weight, velocity } = this.#variable(name);
    if (values.length !== sizeOf(block.shape)) {
      throw new Error(`${name} has ${String(sizeOf(block.shape))} values, not ${String(values.length)}`);
    }
    this.#takeBack();
    // The sum is a tensor of its own: the variable must not write into the caller's array.
    const copy = tf.tidy(() => tf.add(upload({ shape: block.shape, values }), 0));
    assign(set === 'weights' ? weight : velocity, copy);
    copy.dispose();
  }

  close(): void {
    this.#takeBack();
    for (const { weight, velocity } of this.#variables.values()) {
      weight.dispose();
      velocity.dispose();
    }
  }

  #variable(name: string): Variable {
    const variable = this.#variables.get(name);
    if (variable === undefined) throw new Error(`this tower has no parameter ${name}`);
    return variable;
  }

  #takeBack(): void {
    for (const tensor of this.#lent.values()) tensor.dispose();
    this.#lent.clear();
  }
}

const normalAttributes = [dtype, attribute.type('T', 'int32'), attribute.type('Tseed', 'int32')];

function makeVariable(shape: readonly number[]): Tensor {
  const attributes = [dtype, attribute.shape('shape', shape), attribute.string('container', ''), anonymous];
  const handle = tf.keep(runOp('VarHandleOp', attributes, []));
  const zeros = tf.zeros([...shape]);
  const own = tf.add(zeros, 0);
  assign(handle, own);
  zeros.dispose();
  own.dispose();
  return handle;
}

function assign(handle: Tensor, value: Tensor): void {
  runOpMany('AssignVariableOp', [dtype, attribute.bool('validate_shape', false)], [handle, value], 0);
}

function read(handle: Tensor): Tensor {
  return runOp('ReadVariableOp', [dtype], [handle]);
}
