// Weights from outside, whatever file they come in, under the names and in the layout of the merged network (docs/weights.md).
// Invariant: a file is checked layer by layer against the network before any of it is used, and what does not fit is named with both shapes.

import { open, readFile } from 'node:fs/promises';
import { DataError, StorageError, UsageError } from '../spec/errors.ts';
import { mergedShapes } from '../spec/layout.ts';
import type { NetworkPlan } from '../spec/network.ts';
import { isNpy, layerArrays, readNpy } from './npy.ts';
import type { ArrayValues } from './npy.ts';
import { readNpz } from './npz.ts';
import { isOnnx, readOnnx } from './onnx.ts';
import { openSafetensors } from './safetensors.ts';

/** Merged tensors by name, each read when it is asked for. */
export interface WeightsFile {
  readonly path: string;
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  /** What the file says of itself: safetensors and ONNX of ours name the network, the step and the classes. */
  readonly metadata: Readonly<Record<string, string>>;
  read(name: string): Promise<Float32Array>;
  close(): Promise<void>;
}

/** A .npy of all AlexNet is 244 MB. */
const maxNpyBytes = 2 ** 31 - 1;

/** Opens a .npy, .npz, .safetensors or .onnx file, told apart by how it begins; throws UsageError, DataError or StorageError naming it. */
export async function openWeights(path: string): Promise<WeightsFile> {
  const start = await firstBytes(path);
  if (isNpy(start)) return fromArrays(path, await npyArrays(path));
  if (start.toString('latin1', 0, 2) === 'PK') return fromArrays(path, await readNpz(path));
  if (isOnnx(start)) {
    const { arrays, metadata } = await readOnnx(path);
    return fromArrays(path, arrays, metadata);
  }
  return openSafetensors(path).catch((error: unknown) => {
    throw new DataError(
      `${path} holds no weights: neither .npy, .npz nor .onnx, and ${error instanceof StorageError ? error.message : String(error)}`,
      { cause: error },
    );
  });
}

async function firstBytes(path: string): Promise<Buffer> {
  try {
    const file = await open(path);
    try {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(16), 0, 16, 0);
      return buffer.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (error) {
    throw new UsageError(`${path} could not be opened: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}

async function npyArrays(path: string) {
  try {
    const bytes = await readFile(path);
    if (bytes.length > maxNpyBytes) throw new DataError(`a .npy file of ${String(bytes.length)} bytes`);
    const content = readNpy(bytes);
    if (!('object' in content)) throw new DataError('one array of numbers: a dict of layers is needed');
    return layerArrays(content.object);
  } catch (error) {
    throw new DataError(`${path} could not be read: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

/** Endings that mean weights or biases: `conv1.weight`, `conv1/weights`, `conv1_W`. */
const roles = [
  [/[._/](weights?|kernel|W|w)(:0)?$/, '.weight'],
  [/[._/](bias(es)?|B|b)(:0)?$/, '.bias'],
] as const;

function fromArrays(path: string, arrays: ReadonlyMap<string, ArrayValues>, metadata: WeightsFile['metadata'] = {}): WeightsFile {
  const named = new Map(
    [...arrays].map(([name, array]) => {
      const role = roles.find(([ending]) => ending.test(name));
      return [role === undefined ? name : name.replace(role[0], role[1]), array];
    }),
  );
  return {
    path,
    metadata,
    shapes: new Map([...named].map(([name, { shape }]) => [name, shape])),
    read: (name) => {
      const array = named.get(name);
      return array === undefined ? Promise.reject(new DataError(`${path} has no ${name}`)) : Promise.resolve(array.values);
    },
    close: () => Promise.resolve(),
  };
}

/** Which tensors of a file a network takes. */
export interface Fit {
  /** Names of the tensors that are loaded. */
  readonly loaded: ReadonlySet<string>;
  /** Tensors of the file that the network has not. */
  readonly unused: readonly string[];
}

/** Fits a file to a network without the layers in `skip`; throws DataError naming what is missing, or a layer, the file's shape and the network's. */
export function fitWeights(
  { path, shapes }: Pick<WeightsFile, 'path' | 'shapes'>,
  plan: NetworkPlan,
  /** Layers that are drawn; where nothing is drawn at all, none are named. */
  skip?: readonly string[],
): Fit {
  const wanted = mergedShapes(plan);
  const layerOf = (name: string): string => name.slice(0, name.lastIndexOf('.'));
  const toLoad = [...wanted.keys()].filter((name) => skip?.includes(layerOf(name)) !== true);
  const advice = (names: readonly string[]): string =>
    skip === undefined ? '' : `; draw it afresh with --skip ${[...new Set([...skip, ...names.map(layerOf)])].join(',')}`;
  const missing = toLoad.filter((name) => !shapes.has(name));
  if (missing.length > 0) throw new DataError(`${path} has no ${missing.join(', ')}${advice(missing)}`);
  for (const name of toLoad) {
    const [found, shape] = [shapes.get(name) ?? [], wanted.get(name) ?? []];
    if (found.length !== shape.length || found.some((size, axis) => size !== shape[axis])) {
      throw new DataError(
        `${path}: ${name} has shape [${found.join(', ')}], ${plan.spec.name} with ${String(plan.classes)} classes needs [${shape.join(', ')}]` +
          advice([name]),
      );
    }
  }
  return { loaded: new Set(toLoad), unused: [...shapes.keys()].filter((name) => !wanted.has(name)) };
}
