// Weights that NumPy and Python's safetensors wrote, in all the ways they may have, are read by us; what we write, they read.

import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { writeLayersNpy } from '../../src/formats/npyWriter.ts';
import { writeSafetensors } from '../../src/formats/safetensors.ts';
import type { NamedTensor } from '../../src/formats/safetensors.ts';
import { fitWeights, openWeights } from '../../src/formats/weightsFile.ts';
import { DataError, UsageError } from '../../src/spec/errors.ts';
import { mergedShapes } from '../../src/spec/layout.ts';
import { networks, planNetwork } from '../../src/spec/network.ts';
import { pythonOr } from '../python.ts';
import { pickleOfPython2 } from './python2Pickle.ts';

const folder = mkdtempSync(join(tmpdir(), 'weights-'));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

/** What every file below holds: numbers that a half-precision float can say, too. */
const expected: Readonly<Record<string, { shape: number[]; values: number[] }>> = {
  'conv1.weight': { shape: [2, 1, 2, 3], values: Array.from({ length: 12 }, (_, i) => i / 4 - 1) },
  'conv1.bias': { shape: [3], values: [0.5, -0.25, 2048] },
  'fc8.weight': { shape: [3, 2], values: [1, 2, 3, 4, 5, 6] },
  'fc8.bias': { shape: [2], values: [-0.5, 6.103515625e-5] },
};

async function* tensors(): AsyncGenerator<NamedTensor> {
  await Promise.resolve();
  for (const [name, { shape, values }] of Object.entries(expected)) yield { name, shape, values: Float32Array.from(values) };
}

async function contentsOf(path: string): Promise<unknown> {
  const file = await openWeights(path);
  const found: Record<string, unknown> = {};
  for (const [name, shape] of file.shapes) found[name] = { shape: [...shape], values: [...(await file.read(name))] };
  await file.close();
  return found;
}

const writeAll = `
import sys, os, json, pickle, numpy as np
folder, given = sys.argv[1], json.loads(sys.argv[2])
path = lambda name: os.path.join(folder, name)
def layers(kind="<f4", order="C", box=list):
    found = {}
    for name, t in given.items():
        found.setdefault(name.split(".")[0], []).append(np.array(t["values"], dtype=kind).reshape(t["shape"]).copy(order=order))
    return {k: box(v) for k, v in found.items()}
pair = lambda v: {"weights": v[0], "biases": v[1]}
for name, content in {"lists": layers(), "dicts": layers(box=pair), "tuples": layers(box=tuple), "reversed lists": layers(box=lambda v: v[::-1]),
    "f8": layers("<f8"), "f2": layers("<f2"), "big-endian f4": layers(">f4"), "big-endian f8": layers(">f8"), "Fortran order": layers(order="F")}.items():
    np.save(path(name + ".npy"), content, allow_pickle=True)
for protocol in 2, 3, 4, 5:
    for fix in True, False:
        for order in "CF":
            with open(path(f"protocol-{protocol}-{fix}-{order}.npy"), "wb") as f:
                np.lib.format.write_array_header_1_0(f, {"descr": "|O", "fortran_order": False, "shape": ()})
                pickle.dump(np.array(layers(order=order), dtype=object), f, protocol=protocol, fix_imports=fix)
class Run:
    def __reduce__(self): return (os.system, ("touch " + path("ran"),))
np.save(path("one.npy"), np.zeros(3, dtype=np.float32))
np.save(path("many.npy"), np.array([{}, {}], dtype=object), allow_pickle=True)
np.save(path("run.npy"), np.array({"conv1": Run()}, dtype=object), allow_pickle=True)
np.save(path("integers.npy"), np.array({"conv1": [np.zeros(3, dtype=np.int64)]}, dtype=object), allow_pickle=True)
for i, (weight, bias) in enumerate([(".weight", ".bias"), ("/weights", "/biases"), ("_W", "_b"), ("/kernel:0", "/bias:0")]):
    arrays = {n.replace(".weight", weight).replace(".bias", bias): np.array(t["values"], dtype=np.float32).reshape(t["shape"]) for n, t in given.items()}
    np.savez(path(f"{i}-stored.npz"), **arrays)
    np.savez_compressed(path(f"{i}-deflated.npz"), **arrays)
`;

/** Everything that NumPy writes for this file, in one go: it takes half a second to start. */
let written = false;
function writtenByNumpy(skip: (reason: string) => never): void {
  const python = pythonOr(skip);
  if (!written) python(writeAll, folder, JSON.stringify(expected));
  written = true;
}

const kinds = ['lists', 'dicts', 'tuples', 'reversed lists', 'f8', 'f2', 'big-endian f4', 'big-endian f8', 'Fortran order'];

describe('.npy by NumPy', () => {
  test.for(kinds)('of %s is read', async (kind, { skip }) => {
    writtenByNumpy(skip);
    expect(await contentsOf(join(folder, `${kind}.npy`))).toEqual(expected);
  });

  test.for([2, 3, 4, 5])(
    'with pickle protocol %i is read, names for Python 2 or 3, rows or columns first',
    async (protocol, { skip }) => {
      writtenByNumpy(skip);
      for (const names of ['True-C', 'False-C', 'True-F', 'False-F'])
        expect(await contentsOf(join(folder, `protocol-${String(protocol)}-${names}.npy`)), names).toEqual(expected);
    },
  );

  test('as Python 2 pickled bvlc_alexnet is read: texts and data are both byte strings', async () => {
    const path = join(folder, 'python2.npy');
    writeFileSync(path, pickleOfPython2(expected));
    expect(await contentsOf(path)).toEqual(expected);
  });

  test('with one array alone, or many objects, or something to run, is refused and named', async ({ skip }) => {
    writtenByNumpy(skip);
    await expect(openWeights(join(folder, 'one.npy'))).rejects.toThrow(/one.npy.*a dict of layers is needed/);
    await expect(openWeights(join(folder, 'many.npy'))).rejects.toThrow(/many objects/);
    await expect(openWeights(join(folder, 'run.npy'))).rejects.toThrow(/asks for posix.system.*it is not read/);
    expect(existsSync(join(folder, 'ran'))).toBe(false);
    await expect(openWeights(join(folder, 'integers.npy'))).rejects.toThrow(/type <i8/);
    await expect(openWeights(join(folder, 'none.npy'))).rejects.toThrow(UsageError);
  });
});

describe('.npz by NumPy', () => {
  test.for(['stored', 'deflated'])('%s is read, whatever its arrays are called', async (how, { skip }) => {
    writtenByNumpy(skip);
    for (const style of [0, 1, 2, 3]) expect(await contentsOf(join(folder, `${String(style)}-${how}.npz`))).toEqual(expected);
  });
});

describe('Python', () => {
  test('reads our .npy as it reads bvlc_alexnet.npy, also with encoding bytes, and we read it back', async ({ skip }) => {
    const python = pythonOr(skip);
    const path = join(folder, 'ours.npy');
    const { bytes } = await writeLayersNpy(path, tensors());
    expect(readFileSync(path)).toHaveLength(bytes);
    const program = `
import sys, json, warnings, numpy as np
warnings.simplefilter("error")
a = np.load(sys.argv[1], allow_pickle=True).item()
b = np.load(sys.argv[1], allow_pickle=True, encoding="bytes").item()
assert [type(a), type(a["conv1"]), type(a["conv1"][0])] == [dict, list, np.ndarray]
assert all((x == y).all() and x.dtype == np.float32 for n in a for x, y in zip(a[n], b[n])) and list(a) == list(b)
print(json.dumps({n + r: {"shape": list(t.shape), "values": t.ravel().tolist()} for n, l in a.items() for r, t in zip([".weight", ".bias"], l)}))`;
    expect(JSON.parse(python(program, path))).toEqual(expected);
    expect(await contentsOf(path)).toEqual(expected);
  });

  test('reads our safetensors, and we read its', async ({ skip }) => {
    const python = pythonOr(skip);
    const path = join(folder, 'ours.safetensors');
    const shapes = Object.entries(expected).map(([name, { shape }]) => ({ name, shape }));
    await writeSafetensors(path, shapes, tensors(), { classes: '["à"]' });
    const program = `
import sys, json
from safetensors import safe_open
from safetensors.numpy import save_file
with safe_open(sys.argv[1], "numpy") as f:
    arrays, metadata = {n: f.get_tensor(n) for n in f.keys()}, f.metadata()
save_file(arrays, sys.argv[2], metadata)
print(json.dumps([metadata, {n: {"shape": list(t.shape), "values": t.ravel().tolist()} for n, t in arrays.items()}]))`;
    const theirs = join(folder, 'theirs.safetensors');
    expect(JSON.parse(python(program, path, theirs))).toEqual([{ classes: '["à"]' }, expected]);
    expect(await contentsOf(theirs)).toEqual(expected);
  });
});

test('a .npy of layers takes weights and biases only', async () => {
  const path = join(folder, 'odd.npy');
  async function* odd(): AsyncGenerator<NamedTensor> {
    yield await Promise.resolve({ name: 'conv1.mask', shape: [1], values: new Float32Array(1) });
  }
  await expect(writeLayersNpy(path, odd())).rejects.toThrow(DataError);
  expect(() => readFileSync(path)).toThrow(/ENOENT/);
});

describe('a fit', () => {
  const plan = planNetwork(networks.tiny, 10);
  const shapes = new Map([...mergedShapes(plan), ['extra', [1]]]);

  test('names the layer and both shapes where they differ, unless it is skipped', () => {
    const other = new Map([...shapes, ['fc8.weight', [32, 1000]], ['fc8.bias', [1000]]]);
    expect(() => fitWeights({ path: 'w.npy', shapes: other }, plan, [])).toThrow(
      /w.npy: fc8.weight has shape \[32, 1000\], tiny with 10 classes needs \[32, 10\]; draw it afresh with --skip fc8$/,
    );
    const { loaded, unused } = fitWeights({ path: 'w.npy', shapes: other }, plan, ['fc8']);
    expect(loaded.has('fc8.bias')).toBe(false);
    expect(loaded.size).toBe(14);
    expect(unused).toEqual(['extra']);
  });

  test('names all that is missing, and advises to draw it only where something may be drawn', () => {
    const less = new Map([...shapes].filter(([name]) => !/^(fc7|conv2.bias)/.test(name)));
    expect(() => fitWeights({ path: 'w', shapes: less }, plan)).toThrow(/w has no conv2.bias, fc7.weight, fc7.bias$/);
    expect(() => fitWeights({ path: 'w', shapes: less }, plan, ['fc8'])).toThrow(/--skip fc8,conv2,fc7$/);
  });
});
