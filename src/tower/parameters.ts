// The weights and velocities of one tower, as TensorFlow resource variables that are updated in place.
// Invariant: `get` lends a tensor that shares the variable's memory; it is valid until the next update or load.

import type { RunConfig } from '../spec/config.ts';
import { initialDraw } from '../spec/initialisation.ts';
import { randomKey } from '../spec/random.ts';
import { sizeOf } from '../spec/layout.ts';
import type { ParameterBlock, TowerIndex } from '../spec/layout.ts';
import { attribute, dispose, runOp, upload } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';
import type { Update, UpdateRates } from './updateRule.ts';
import { Variable } from './variable.ts';
import tf from '@tensorflow/tfjs-node-gpu';

/** Gradients by parameter name. */
export type Gradients = Map<string, Tensor>;

export type ParameterSet = 'weights' | 'momentum';

interface BlockVariables {
  readonly block: ParameterBlock;
  readonly weight: Variable;
  readonly velocity: Variable;
}

export class Parameters {
  readonly blocks: readonly ParameterBlock[];
  readonly #update: Update;
  readonly #variables: ReadonlyMap<string, BlockVariables>;

  /** Makes the variables of `blocks`, all zero. */
  constructor(blocks: readonly ParameterBlock[], update: Update) {
    this.blocks = blocks;
    this.#update = update;
    this.#variables = new Map(
      blocks.map((block) => [block.name, { block, weight: new Variable(block.shape), velocity: new Variable(block.shape) }]),
    );
  }

  /** Draws the weights: each block by a key of its own, so that neither order nor thread count matters. */
  initialise(init: RunConfig['init'], seed: number, tower: TowerIndex): void {
    for (const { block, weight } of this.#variables.values()) {
      const { sd, bias } = initialDraw(init, block);
      weight.assign(() => {
        if (block.role === 'bias') return tf.fill([...block.shape], bias);
        const key = randomKey(seed, 'init', `${block.name} tower ${String(tower)}`);
        const normal = runOp('StatelessRandomNormal', normalAttributes, [
          tf.tensor1d([...block.shape], 'int32'),
          tf.tensor1d(Int32Array.from(key), 'int32'),
        ]);
        return tf.mul(normal, sd);
      });
    }
  }

  /** Lends the current weights of a block. */
  get(name: string): Tensor {
    return this.#of(name).weight.value;
  }

  /** One step of the update rule on every block that has a gradient; frees the gradients. */
  update(gradients: Gradients, rates: (block: ParameterBlock) => UpdateRates): void {
    const updated = [...gradients].map(([name, gradient]) => {
      const { block, weight, velocity } = this.#of(name);
      return { weight, velocity, gradient, rates: rates(block) };
    });
    if (updated.length > 0) this.#update(updated);
    dispose(...gradients.values());
    gradients.clear();
  }

  /** Copies one block's values to the host. */
  save(name: string, set: ParameterSet): Float32Array {
    return this.#variable(name, set).download();
  }

  /** Replaces one block's values; throws where their number does not fit. */
  load(name: string, set: ParameterSet, values: Float32Array): void {
    const { shape } = this.#of(name).block;
    if (values.length !== sizeOf(shape)) {
      throw new Error(`${name} has ${String(sizeOf(shape))} values, not ${String(values.length)}`);
    }
    this.#variable(name, set).assign(() => upload({ shape, values }));
  }

  close(): void {
    for (const { weight, velocity } of this.#variables.values()) {
      weight.close();
      velocity.close();
    }
  }

  #variable(name: string, set: ParameterSet): Variable {
    const { weight, velocity } = this.#of(name);
    return set === 'weights' ? weight : velocity;
  }

  #of(name: string): BlockVariables {
    const variables = this.#variables.get(name);
    if (variables === undefined) throw new Error(`this tower has no parameter ${name}`);
    return variables;
  }
}

const normalAttributes = [attribute.type('dtype', 'float32'), attribute.type('T', 'int32'), attribute.type('Tseed', 'int32')];
