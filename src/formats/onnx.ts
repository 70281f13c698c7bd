// ONNX files of ours, written and read back: a graph of the network (onnxGraph.ts), its weights as initialisers under our names, and what
// the model says of itself as metadata.
// Invariant: one tensor is in memory at a time when writing; a reader follows four kinds of fields, counts them, and skips all others.

import { readFile } from 'node:fs/promises';
import protobuf from 'protobufjs/light.js';
import { DataError } from '../spec/errors.ts';
import { mergedShapes, sizeOf } from '../spec/layout.ts';
import type { NetworkPlan } from '../spec/network.ts';
import type { ArrayValues } from './npy.ts';
import { onnxGraph, opset } from './onnxGraph.ts';
import type { PixelRule } from './onnxGraph.ts';
import { dataTypes, encodeMessage, fieldIds, fieldStart } from './onnxMessages.ts';
import { bytesOf, writeWholeFile } from './wholeFile.ts';
import type { WrittenFile } from './wholeFile.ts';

const producer = 'crosstower';
/** The version of the format that came with opset 13. */
const irVersion = 7;

/** Writes the network with the tensors that `read` gives by their merged names; throws StorageError where the file system refuses. */
export async function writeOnnx(
  path: string,
  { plan, rule, metadata }: { plan: NetworkPlan; rule: PixelRule; metadata: Readonly<Record<string, string>> },
  read: (name: string) => Promise<Float32Array>,
): Promise<WrittenFile> {
  const model = encodeMessage('ModelProto', {
    irVersion,
    producerName: producer,
    opsetImport: [{ domain: '', version: opset }],
    metadataProps: Object.entries(metadata).map(([key, value]) => ({ key, value })),
  });
  const graph = encodeMessage('GraphProto', onnxGraph(plan, rule));
  const weights = [...mergedShapes(plan)].map(([name, shape]) => {
    const bytes = 4 * sizeOf(shape);
    const dims = shape.length === 4 ? channelsFirst.map((axis) => shape[axis] ?? 0) : shape;
    const head = encodeMessage('TensorProto', { dims, dataType: dataTypes.float, name });
    const data = fieldStart(fieldIds.tensor.rawData, bytes);
    const start = fieldStart(fieldIds.graph.initializer, head.length + data.length + bytes);
    return { name, shape, before: Buffer.concat([start, head, data]), bytes };
  });
  const graphBytes = weights.reduce((sum, { before, bytes }) => sum + before.length + bytes, graph.length);
  return writeWholeFile(path, async (write) => {
    await write(model);
    await write(fieldStart(fieldIds.model.graph, graphBytes));
    await write(graph);
    for (const { name, shape, before, bytes } of weights) {
      const values = await read(name);
      if (values.byteLength !== bytes) throw new Error(`${name} has ${String(values.length)} values, not ${String(bytes / 4)}`);
      await write(before);
      await write(bytesOf(shape.length === 4 ? permute(values, shape, channelsFirst) : values));
    }
  });
}

/** Axes of a kernel [kh, kw, in, out] as ONNX wants them, [out, in, kh, kw], and the way back. */
const channelsFirst = [3, 2, 0, 1];
const channelsLast = [2, 3, 1, 0];

/** Values of four axes in another order of these. */
function permute(values: Float32Array, shape: readonly number[], axes: readonly number[]): Float32Array {
  const stride = (axis: number): number => sizeOf(shape.slice(axis + 1));
  const [a = 0, b = 0, c = 0, d = 0] = axes.map((axis) => shape[axis]);
  const [sa = 0, sb = 0, sc = 0, sd = 0] = axes.map(stride);
  const out = new Float32Array(values.length);
  let at = 0;
  for (let i = 0; i < a; i++)
    for (let j = 0; j < b; j++)
      for (let k = 0; k < c; k++) for (let l = 0; l < d; l++) out[at++] = values[i * sa + j * sb + k * sc + l * sd] ?? NaN;
  return out;
}

/** Whether bytes begin as an ONNX model does: its first field is a small number; safetensors have a brace after eight bytes. */
export function isOnnx(bytes: Uint8Array): boolean {
  return bytes[0] === 0x08 && bytes[8] !== '{'.charCodeAt(0);
}

const maxBytes = 2 ** 31 - 1;
/** A graph of ours has 16 tensors of weights, seven small ones, and about ten metadata. */
const maxFields = 1000;

/** A model that was read: kernels as [kh, kw, in, out] again. */
export interface OnnxWeights {
  readonly metadata: Readonly<Record<string, string>>;
  readonly arrays: ReadonlyMap<string, ArrayValues>;
}

/** Reads the weights of a file that `writeOnnx` wrote; throws DataError on any other. */
export async function readOnnx(path: string): Promise<OnnxWeights> {
  try {
    const bytes = await readFile(path);
    if (bytes.length > maxBytes) throw new DataError(`an ONNX file of ${String(bytes.length)} bytes`);
    return readModel(bytes);
  } catch (error) {
    throw new DataError(`${path} could not be read as ONNX: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}

function readModel(bytes: Uint8Array): OnnxWeights {
  const ids = fieldIds.model;
  const fields = fieldsOf(bytes, [ids.producerName, ids.graph, ids.metadataProps]);
  const by = textOf(fields.find(({ id }) => id === ids.producerName)?.bytes);
  if (by !== producer)
    throw new DataError(`it was made by ${by === '' ? 'nobody' : by}: only what crosstower exported is read back`);
  const metadata = fields
    .filter(({ id }) => id === ids.metadataProps)
    .map((entry) => {
      const parts = fieldsOf(entry.bytes, [fieldIds.entry.key, fieldIds.entry.value]);
      return parts.map((part) => textOf(part.bytes));
    })
    .map(([key = '', value = '']) => [key, value] as const);
  const arrays = fields
    .filter(({ id }) => id === ids.graph)
    .flatMap((graph) => fieldsOf(graph.bytes, [fieldIds.graph.initializer]))
    .map((tensor) => readTensor(tensor.bytes))
    .filter(({ name }) => /\.(weight|bias)$/.test(name));
  return { metadata: Object.fromEntries(metadata), arrays: new Map(arrays.map(({ name, ...array }) => [name, array])) };
}

function readTensor(bytes: Uint8Array): ArrayValues & { readonly name: string } {
  const ids = fieldIds.tensor;
  const fields = fieldsOf(bytes, [ids.dims, ids.dataType, ids.name, ids.rawData]);
  const name = textOf(fields.find(({ id }) => id === ids.name)?.bytes);
  const shape = fields.filter(({ id }) => id === ids.dims).flatMap(({ numbers }) => numbers);
  const data = fields.find(({ id }) => id === ids.rawData)?.bytes ?? new Uint8Array();
  const type = fields.find(({ id }) => id === ids.dataType)?.numbers[0];
  if (!/\.(weight|bias)$/.test(name)) return { name, shape: [0], values: new Float32Array() };
  if (type !== dataTypes.float || shape.length > 4 || data.length !== 4 * sizeOf(shape))
    throw new DataError(`${name}: ${String(data.length)} bytes of type ${String(type)} for shape [${shape.join(', ')}]`);
  const values = new Float32Array(new Uint8Array(data).buffer);
  if (shape.length !== 4) return { name, shape, values };
  return { name, shape: channelsLast.map((axis) => shape[axis] ?? 0), values: permute(values, shape, channelsLast) };
}

/** A field of a message: its bytes where it has a length, and its numbers where it has one or is a packed list of them. */
interface FoundField {
  readonly id: number;
  readonly bytes: Uint8Array;
  readonly numbers: readonly number[];
}

/** The fields of a message whose numbers are in `wanted`; throws DataError where it is malformed or has too many. */
function fieldsOf(message: Uint8Array, wanted: readonly number[]): FoundField[] {
  const reader = protobuf.Reader.create(message);
  const found: FoundField[] = [];
  for (let count = 0; reader.pos < reader.len; count++) {
    const tag = reader.uint32();
    const [id, wireType] = [tag >>> 3, tag & 7];
    if (count > maxFields || found.length > maxFields) throw new DataError(`more than ${String(maxFields)} fields`);
    // Groups are no part of the format, and could be nested without end.
    if (wireType === 3 || wireType === 4) throw new DataError('a group where a field should be');
    if (!wanted.includes(id) || wireType === 1 || wireType === 5) reader.skipType(wireType);
    else if (wireType === 2) {
      const bytes = reader.bytes();
      found.push({ id, bytes, numbers: packedNumbers(bytes) });
    } else found.push({ id, bytes: new Uint8Array(), numbers: [Number(reader.uint64())] });
  }
  return found;
}

/** A packed list of at most a shape's length; nothing for anything longer. */
function packedNumbers(bytes: Uint8Array): number[] {
  const longest = 80;
  if (bytes.length > longest) return [];
  const reader = protobuf.Reader.create(bytes);
  const numbers: number[] = [];
  try {
    while (reader.pos < reader.len) numbers.push(Number(reader.uint64()));
  } catch {
    return [];
  }
  return numbers;
}

function textOf(bytes: Uint8Array = new Uint8Array()): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 1 << 20)).toString('utf8');
}
