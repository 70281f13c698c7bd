// The one door to TensorFlow: tensors, single ops by name with their attributes, and copies between host and device.
// Invariant: a function that returns a tensor gives it away, and never disposes what it was handed.
// The layers run TensorFlow's own ops instead of tfjs's wrappers where the wrapper is slower or lacks an attribute.

import tf from '@tensorflow/tfjs-node-gpu';
import type { TensorData } from '../spec/exchange.ts';
import { sizeOf } from '../spec/layout.ts';

export type Tensor = tf.Tensor;

/** An attribute of a TensorFlow op, as the binding takes it. */
export interface Attribute {
  readonly name: string;
  readonly type: number;
  readonly value: unknown;
}

interface TensorHandle {
  readonly id: number;
  readonly shape: number[];
  readonly dtype: number;
}

interface Binding {
  readonly TF_ATTR_STRING: number;
  readonly TF_ATTR_INT: number;
  readonly TF_ATTR_FLOAT: number;
  readonly TF_ATTR_BOOL: number;
  readonly TF_ATTR_TYPE: number;
  readonly TF_ATTR_SHAPE: number;
  readonly TF_FLOAT: number;
  readonly TF_INT32: number;
  readonly TF_UINT8: number;
  readonly TF_BOOL: number;
  readonly TF_Version: string;
  createTensor(shape: readonly number[], dtype: number, values: ArrayBufferView): number;
}

/** What tfjs-node's backend offers beyond tfjs's public types. */
interface NodeBackend {
  readonly binding: Binding;
  readonly isUsingGpuDevice: boolean;
  executeSingleOutput(name: string, attributes: readonly Attribute[], inputs: readonly Tensor[]): Tensor;
  executeMultipleOutputs(name: string, attributes: readonly Attribute[], inputs: readonly Tensor[], outputs: number): Tensor[];
  createOutputTensor(handle: TensorHandle): Tensor;
}

const backend = tf.backend() as unknown as NodeBackend;
const { binding } = backend;

/** Builds attributes by their type in TensorFlow's op definitions. */
export const attribute = {
  string: (name: string, value: string | readonly string[]): Attribute => ({ name, type: binding.TF_ATTR_STRING, value }),
  int: (name: string, value: number | readonly number[]): Attribute => ({ name, type: binding.TF_ATTR_INT, value }),
  float: (name: string, value: number): Attribute => ({ name, type: binding.TF_ATTR_FLOAT, value }),
  bool: (name: string, value: boolean): Attribute => ({ name, type: binding.TF_ATTR_BOOL, value }),
  shape: (name: string, value: readonly number[]): Attribute => ({ name, type: binding.TF_ATTR_SHAPE, value }),
  type: (name: string, value: keyof typeof dataTypes): Attribute => ({
    name,
    type: binding.TF_ATTR_TYPE,
    value: dataTypes[value],
  }),
};

const dataTypes = { float32: binding.TF_FLOAT, int32: binding.TF_INT32, uint8: binding.TF_UINT8, bool: binding.TF_BOOL };

/** The attribute that nearly every op has: its element type is fp32. */
export const float32 = attribute.type('T', 'float32');

/** Runs a TensorFlow op with one output. */
export function runOp(name: string, attributes: readonly Attribute[], inputs: readonly Tensor[]): Tensor {
  return backend.executeSingleOutput(name, attributes, inputs);
}

/** Runs a TensorFlow op with `outputs` outputs. */
export function runOpMany(name: string, attributes: readonly Attribute[], inputs: readonly Tensor[], outputs: number): Tensor[] {
  return backend.executeMultipleOutputs(name, attributes, inputs, outputs);
}

/** Whether TensorFlow has, for this device, the ops that `run` runs; what they make is freed. */
export function canRun(run: () => unknown): boolean {
  try {
    tf.tidy(() => {
      run();
    });
    return true;
  } catch {
    return false;
  }
}

/** Told of every op that runs, tfjs's own included, with the milliseconds around it; a GPU may still be at work by then. */
export type OpObserver = (op: { readonly name: string; readonly startMs: number; readonly endMs: number }) => void;

const plainOps: Pick<NodeBackend, 'executeSingleOutput' | 'executeMultipleOutputs'> = {
  executeSingleOutput: backend.executeSingleOutput.bind(backend),
  executeMultipleOutputs: backend.executeMultipleOutputs.bind(backend),
};

/** From now on tells `observer` of every op, by the clock `now`; of none without one. */
export function observeOps(observer: OpObserver | undefined, now: () => number): void {
  const observed =
    <Args extends [string, ...never[]], R>(run: (...args: Args) => R) =>
    (...args: Args): R => {
      const startMs = now();
      const result = run(...args);
      observer?.({ name: args[0], startMs, endMs: now() });
      return result;
    };
  Object.assign(
    backend,
    observer === undefined
      ? plainOps
      : {
          executeSingleOutput: observed(plainOps.executeSingleOutput),
          executeMultipleOutputs: observed(plainOps.executeMultipleOutputs),
        },
  );
}

/** Sums of what lies in two tensors of one shape. */
export function add(a: Tensor, b: Tensor): Tensor {
  return runOp('AddV2', [float32], [a, b]);
}

/** The elementwise product; shapes broadcast. */
export function multiply(a: Tensor, b: Tensor): Tensor {
  return runOp('Mul', [float32], [a, b]);
}

/** The same values under another shape, without a copy. */
export function reshape(x: Tensor, shape: readonly number[]): Tensor {
  return tf.reshape(x, [...shape]);
}

/** N, the first dimension. */
export function picturesOf(x: Tensor): number {
  const [pictures] = x.shape as readonly (number | undefined)[];
  if (pictures === undefined) throw new Error('a scalar holds no pictures');
  return pictures;
}

/** Some of the pictures of a tensor. */
export interface PictureRange {
  readonly start: number;
  readonly count: number;
}

/** Values in 64 bytes, to which TensorFlow aligns tensors. */
const alignedValues = 16;

/**
 * Some of the pictures of x, each as `shape`, without a copy where they begin at an aligned place. TensorFlow shares a slice of whole rows if every
 * row is aligned: pictures of 227x227 are not, rows of 16 values are, and 16 pictures of any size are a number of those.
 */
export function slicePictures(x: Tensor, { start, count }: PictureRange, shape: readonly number[]): Tensor {
  if (count === picturesOf(x)) return reshape(x, [count, ...shape]);
  const size = sizeOf(shape);
  const isAligned = [picturesOf(x), start, count].every((pictures) => (pictures * size) % alignedValues === 0);
  const row = isAligned ? alignedValues : size;
  return tf.tidy(() => {
    const rows = tf.slice(reshape(x, [-1, row]), [(start * size) / row, 0], [(count * size) / row, row]);
    return reshape(rows, [count, ...shape]);
  });
}

/** A scalar on the device. */
export function scalar(value: number): Tensor {
  return tf.scalar(value, 'float32');
}

/** Copies fp32 values to the device. On a CPU the tensor may share the array's memory: nothing may be written there while it lives. */
export function upload({ shape, values }: TensorData): Tensor {
  return tf.tensor(values, [...shape], 'float32');
}

/** Copies whole numbers to the device. */
export function uploadInt32(values: Int32Array, shape: readonly number[]): Tensor {
  return tf.tensor(values, [...shape], 'int32');
}

/** Hands bytes to the device as they are; tfjs itself knows no uint8. They may share memory as in `upload`. */
export function uploadBytes(bytes: Uint8Array, shape: readonly number[]): Tensor {
  const id = binding.createTensor(shape, binding.TF_UINT8, bytes);
  return backend.createOutputTensor({ id, shape: [...shape], dtype: binding.TF_UINT8 });
}

/** Waits for the device and copies a tensor's fp32 values to fresh host memory. */
export function download(x: Tensor): TensorData {
  return { shape: x.shape, values: x.dataSync<'float32'>() };
}

/** The one value of a scalar tensor. */
export function downloadScalar(x: Tensor): number {
  const value = x.dataSync()[0];
  if (value === undefined) throw new Error(`a tensor of shape [${x.shape.join(', ')}] has no value`);
  return value;
}

export function dispose(...tensors: readonly (Tensor | undefined)[]): void {
  for (const tensor of tensors) tensor?.dispose();
}

/** Keeps tensors alive beyond the pass that makes them, until they are disposed of. */
export function keep<T extends Tensor>(tensor: T): T {
  return tf.keep(tensor);
}

/** Runs a pass and frees what it leaves behind, which it does only where it is broken off; not what is kept. */
export async function freeingWhatIsLeft(pass: () => Promise<void>): Promise<void> {
  const engine = tf.engine();
  engine.startScope();
  try {
    await pass();
  } finally {
    engine.endScope();
  }
}

/** Tensors that are alive, in this process. Constant from step to step. */
export function liveTensors(): number {
  return tf.memory().numTensors;
}

/** What the process computes on. */
export interface DeviceInfo {
  readonly kind: 'cpu' | 'gpu';
  readonly tensorflow: string;
}

export function deviceInfo(): DeviceInfo {
  return { kind: backend.isUsingGpuDevice ? 'gpu' : 'cpu', tensorflow: binding.TF_Version };
}
