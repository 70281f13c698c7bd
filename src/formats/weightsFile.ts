// Weights from outside, whatever file they come in, under the names and in the layout of the merged network (docs/weights.md).
// Invariant: a file is checked layer by layer against the network before any of it is used, and what does not fit is named with both shapes.

import { open, readFile } from 'node:fs/promises';
import { DataError, StorageError, UsageError } from '../spec/errors.ts';
import { mergedShapes } from '../spec/layout.ts';
import type { NetworkPlan } from '../spec/network.ts';
import { isNpy, layerArrays, readNpy } from './npy.ts';
import { readNpz } from './npz.ts';
import { openSafetensors } from './safetensors.ts';

/** Merged tensors by name, each read when it is asked for. */
export interface WeightsFile {
  readonly path: string;
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  /** What the file says of itself: safetensors of ours name the network, the step and the classes. */
  readonly metadata: Readonly<Record<string, string>>;
  read(name: string): Promise<Float32Array>;
  close(): Promise<void>;
}

/** A .npy of all AlexNet is 244 MB. */
const maxNpyBytes = 2 ** 31 - 1;

/** Opens a .npy, .npz or .safetensors file, told apart by how it begins; throws UsageError, DataError or StorageError naming it. */
export async function openWeights(path: string): Promise<WeightsFile> {
  const start = await firstBytes(path);
  if (isNpy(start)) return fromArrays(path, await npyArrays(path));
  if (start.toString('latin1', 0, 2) === 'PK') return fromArrays(path, await readNpz(path));
  return openSafetensors(path).catch((error: unknown) => {
    throw new DataError(
      `${path} holds no weights: neither .npy nor .npz, and ${error instanceof StorageError ? error.message : String(error)}`,
      { cause: error },
    );
  });
}

async function firstBytes(path: string): Promise<Buffer> {
  try {
    const file = await open(path);
    try {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(8), 0, 8, 0);
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

function fromArrays(path: string, arrays: ReadonlyMap<string, { shape: readonly number[]; values: Float32Array }>): WeightsFile {
  const named = new Map(
    [...arrays].map(([name, array]) => {
      const role = roles.find(([ending]) => ending.test(name));
      return [role === undefined ? name : name.replace(role[0], role[1]), array];
    }),
  );
  return {
    path,
    metadata: {},
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

/** Fits a file to a network without the layers in `skip`; throws DataError naming the layer, the file's shape and the network's. */
export function fitWeights(
  { path, shapes }: Pick<WeightsFile, 'path' | 'shapes'>,
  plan: NetworkPlan,
  skip: readonly string[] = [],
): Fit {
  const wanted = mergedShapes(plan);
  const layerOf = (name: string): string => name.slice(0, name.lastIndexOf('.'));
  const loaded = new Set<string>();
  for (const [name, shape] of wanted) {
    const layer = layerOf(name);
    if (skip.includes(layer)) continue;
    const found = shapes.get(name);
    if (found === undefined)
      throw new DataError(`${path} has no ${name}; draw that layer afresh with --skip ${[...skip, layer].join(',')}`);
    if (found.length !== shape.length || found.some((size, axis) => size !== shape[axis])) {
      throw new DataError(
        `${path}: ${name} has shape [${found.join(', ')}], ${plan.spec.name} with ${String(plan.classes)} classes needs [${shape.join(', ')}]; ` +
          `draw that layer afresh with --skip ${[...skip, layer].join(',')}`,
      );
    }
    loaded.add(name);
  }
  return { loaded, unused: [...shapes.keys()].filter((name) => !wanted.has(name)) };
}
