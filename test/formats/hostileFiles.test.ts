// Files that are damaged, or made to do harm: whatever the bytes, a reader gives tensors or one of our errors, soon and in little memory.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { writeLayersNpy } from '../../src/formats/npyWriter.ts';
import { writeOnnx } from '../../src/formats/onnx.ts';
import { writeSafetensors } from '../../src/formats/safetensors.ts';
import { openWeights } from '../../src/formats/weightsFile.ts';
import { parseRunConfig } from '../../src/spec/config.ts';
import { DataError, StorageError } from '../../src/spec/errors.ts';
import { networks, planNetwork } from '../../src/spec/network.ts';
import { drawMerged } from '../tower/mergedWeights.ts';
import { pickleOfPython2 } from './python2Pickle.ts';
import { zipOf } from './zipFiles.ts';

const folder = mkdtempSync(join(tmpdir(), 'hostile-'));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

const tensors = {
  'conv1.weight': { shape: [2, 2, 1, 3], values: Array.from({ length: 12 }, (_, i) => i) },
  'conv1.bias': { shape: [3], values: [1, 2, 3] },
};
const named = Object.entries(tensors).map(([name, { shape, values }]) => ({ name, shape, values: Float32Array.from(values) }));

async function* streamed() {
  for (const tensor of named) yield await Promise.resolve(tensor);
}

function npyOf(shape: string, data: Uint8Array, descr = '<f4'): Buffer {
  const header = Buffer.from(`{'descr': '${descr}', 'fortran_order': False, 'shape': ${shape}, }\n`);
  const start = Buffer.from('\x93NUMPY\x01\x00  ', 'latin1');
  start.writeUInt16LE(header.length, 8);
  return Buffer.concat([start, header, data]);
}

const path = join(folder, 'file');

/** Opens and reads all of it; gives what was thrown. */
async function outcome(bytes: Uint8Array): Promise<unknown> {
  writeFileSync(path, bytes);
  try {
    const file = await openWeights(path);
    try {
      for (const name of file.shapes.keys()) await file.read(name);
    } finally {
      await file.close();
    }
    return undefined;
  } catch (error) {
    return error;
  }
}

function expectOurs(error: unknown): void {
  if (error !== undefined) expect(error).toSatisfy((value) => value instanceof DataError || value instanceof StorageError);
}

const seeds = new Map<string, Buffer>();
beforeAll(async () => {
  const shapes = named.map(({ name, shape }) => ({ name, shape }));
  await writeSafetensors(path, shapes, named, { classes: '["a","b"]' });
  seeds.set('.safetensors', readFileSync(path));
  await writeLayersNpy(path, streamed());
  seeds.set('.npy of Python 3', readFileSync(path));
  seeds.set('.npy of Python 2', pickleOfPython2(tensors));
  const member = npyOf('(3,)', new Uint8Array(12));
  seeds.set(
    '.npz',
    zipOf([
      { name: 'conv1.bias.npy', content: member },
      { name: 'fc8/biases.npy', content: member, deflated: true },
    ]),
  );
  const plan = planNetwork(networks.tiny, 2);
  const merged = drawMerged(plan);
  const rule = { ...parseRunConfig({}, 'test'), mean: [1, 2, 3], deviation: [1, 1, 1] };
  await writeOnnx(path, { plan, rule, metadata: { classes: '["a","b"]' } }, (name) => Promise.resolve(merged.get(name)!));
  seeds.set('.onnx', readFileSync(path));
});

/** Where structure is: the first kilobytes of a file, and the last. */
const structureBytes = 3000;

const change = fc.record({
  at: fc.nat(structureBytes),
  fromEnd: fc.boolean(),
  bytes: fc.oneof(fc.uint8Array({ minLength: 1, maxLength: 4 }), fc.constant(Uint8Array.of(0xff, 0xff, 0xff, 0xff))),
});

function damaged(
  seed: Buffer,
  changes: readonly { at: number; fromEnd: boolean; bytes: Uint8Array }[],
  cut: number | null,
): Buffer {
  const bytes = Buffer.from(seed);
  for (const { at, fromEnd, bytes: put } of changes) {
    const place = at % bytes.length;
    bytes.set(put.subarray(0, bytes.length - place), fromEnd ? Math.max(0, bytes.length - place - put.length) : place);
  }
  return cut === null ? bytes : bytes.subarray(0, cut % bytes.length);
}

describe.each(['.safetensors', '.npy of Python 3', '.npy of Python 2', '.npz', '.onnx'])('a %s file', (kind) => {
  test('is read as it is', async () => {
    expect(await outcome(seeds.get(kind)!)).toBeUndefined();
  });

  test('that was changed or cut anywhere is read or refused', async () => {
    const seed = seeds.get(kind)!;
    await fc.assert(
      fc.asyncProperty(fc.array(change, { maxLength: 4 }), fc.option(fc.nat()), async (changes, cut) => {
        expectOurs(await outcome(damaged(seed, changes, cut)));
      }),
      { numRuns: 300 },
    );
  });

  test('of which only the beginning is right is read or refused', async () => {
    const seed = seeds.get(kind)!;
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 6, max: 200 }), fc.uint8Array({ maxLength: 400 }), async (kept, rest) => {
        expectOurs(await outcome(Buffer.concat([seed.subarray(0, kept), rest])));
      }),
      { numRuns: 200 },
    );
  });
});

/** A pickle in a .npy of one object, from opcodes as latin1. */
function pickled(...parts: readonly (string | Uint8Array)[]): Buffer {
  const opcodes = parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part));
  return npyOf('()', Buffer.concat([Buffer.from('\x80\x03', 'latin1'), ...opcodes]), '|O');
}

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const objectArray =
  'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01)cnumpy\ndtype\nX\x02\x00\x00\x00O8K\x00K\x01\x87R\x89]';
const floatArray = (shape: string, data: string | Uint8Array): (string | Uint8Array)[] => [
  `cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01${shape}`,
  'cnumpy\ndtype\nX\x02\x00\x00\x00f4K\x00K\x01\x87R(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x88',
  data,
  'tb',
];
const mega = 1 << 20;

const bombs: Readonly<Record<string, () => Uint8Array>> = {
  'a pickle of one array under thousands of names': () =>
    pickled(
      `${objectArray}}(`,
      ...[
        'X\x01\x00\x00\x00a]',
        ...floatArray('(J\x00\x00\x04\x00t', Buffer.concat([Buffer.from('B'), u32(mega), Buffer.alloc(mega)])),
        'q\x05a',
      ],
      ...Array.from({ length: 20_000 }, (_, i) => `X\x05\x00\x00\x00${String(10_000 + i)}]h\x05a`),
      'uatb.',
    ),
  'a pickle of lists in lists that double each time': () => pickled(']q\x00', '](h\x00h\x00eq\x00'.repeat(10_000), '.'),
  'a pickle of a million opcodes': () => pickled('N'.repeat(mega), '.'),
  'a pickle of tuples a hundred thousand deep': () => pickled(')', '\x85'.repeat(99_000), '.'),
  'a pickle of a list that holds itself': () => pickled(`${objectArray}}X\x01\x00\x00\x00a]q\x00h\x00asatb.`),
  'a pickle of a dict that holds itself': () => pickled(`${objectArray}}q\x00X\x01\x00\x00\x00ah\x00satb.`),
  'a pickle of a text of 4 GB': () => pickled('X\xff\xff\xff\xffabc.'),
  'a pickle of bytes of 2^63': () => pickled('\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.'),
  'a pickle of an array of thousands of axes': () =>
    pickled(
      `${objectArray}}X\x01\x00\x00\x00a]`,
      ...floatArray(
        `(${'K\x01'.repeat(50_000)}J\x00\x00\x04\x00t`,
        Buffer.concat([Buffer.from('B'), u32(mega), Buffer.alloc(mega)]),
      ),
      'asatb.',
    ),
  'a pickle of an array of more than there is': () =>
    pickled(`${objectArray}}X\x01\x00\x00\x00a]`, ...floatArray('(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft', 'C\x04abcd'), 'asatb.'),
  'a .npy whose header says 4 GB': () => Buffer.from('\x93NUMPY\x02\x00\xff\xff\xff\xff{', 'latin1'),
  'a .npy of more values than there are': () => npyOf('(4294967296, 4294967296)', new Uint8Array(8)),
  'a .npz member that would grow a thousandfold': () =>
    zipOf([{ name: 'a.npy', content: Buffer.alloc(30 * mega), deflated: true }]),
  'a .npz member that says it is small and grows': () =>
    zipOf([{ name: 'a.npy', content: Buffer.alloc(30 * mega), deflated: true, claimedBytes: 128 }]),
  'a .npz member that says it is large': () =>
    zipOf([{ name: 'a.npy', content: npyOf('(3,)', new Uint8Array(12)), deflated: true, claimedBytes: 100_000 }]),
  'a .npz of thousands of members': () =>
    zipOf(Array.from({ length: 3000 }, (_, i) => ({ name: `${String(i)}.npy`, content: Buffer.alloc(1) }))),
  'a .npz member that climbs out of its folder': () =>
    zipOf([{ name: '../../a.npy', content: npyOf('(3,)', new Uint8Array(12)) }]),
  'an .onnx of a million empty tensors': () => {
    const head = Buffer.from('\x08\x07\x12\x0acrosstower', 'latin1');
    return Buffer.concat([head, Buffer.from('\x3a\x80\x80\x80\x01', 'latin1'), Buffer.from('\x2a\x00'.repeat(mega), 'latin1')]);
  },
  'an .onnx of groups in groups': () => Buffer.from(`\x08\x07\x12\x0acrosstower${'\x5b'.repeat(mega)}`, 'latin1'),
  'an .onnx of a tensor of more than there is': () =>
    Buffer.from('\x08\x07\x12\x0acrosstower\x3a\x12\x2a\x10\x08\xff\xff\xff\xff\x0f\x10\x01\x42\x06a.bias', 'latin1'),
  'a .safetensors whose header nests a hundred thousand deep': () => {
    const json = Buffer.from(`{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`);
    return Buffer.concat([u32(json.length), u32(0), json]);
  },
  'a .safetensors whose header says 2^63': () => Buffer.from('\xff\xff\xff\xff\xff\xff\xff\x7f{}', 'latin1'),
  'a .safetensors of more values than there are': () => {
    const json = Buffer.from('{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}');
    return Buffer.concat([u32(json.length), u32(0), json, u32(0)]);
  },
};

test.each(Object.entries(bombs))('%s is refused at once', async (_name, make) => {
  const bytes = make();
  const [start, rss] = [performance.now(), process.memoryUsage.rss()];
  const error = await outcome(bytes);
  expect(error).toSatisfy((value) => value instanceof DataError || value instanceof StorageError);
  // A tenth of a second by itself; the machine may be busy. What a bomb would grow to is hundreds of megabytes.
  expect(performance.now() - start).toBeLessThan(2000);
  expect(process.memoryUsage.rss() - rss).toBeLessThan(150 * mega);
});

test('names like those of every object are names like any other', async () => {
  const bias = floatArray('(K\x01t', 'C\x04\x00\x00\x80\x3f');
  const bytes = pickled(
    `${objectArray}}X\x09\x00\x00\x00__proto__](`,
    ...bias,
    'esX\x0b\x00\x00\x00constructor](',
    ...bias,
    'esatb.',
  );
  writeFileSync(path, bytes);
  const file = await openWeights(path);
  expect([...file.shapes.keys()]).toEqual(['__proto__.bias', 'constructor.bias']);
  expect(({} as Record<string, unknown>)['bias']).toBeUndefined();
  const shapes = [{ name: '__proto__', shape: [1] }];
  await writeSafetensors(path, shapes, [{ ...shapes[0]!, values: new Float32Array(1) }]);
  expect(readFileSync(path, 'latin1')).toMatch(/"__proto__":\{"dtype"/);
});
