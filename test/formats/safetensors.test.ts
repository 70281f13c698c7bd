// Safetensors files as we write them are read back; what is not one is refused, whatever it claims.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { StorageError } from '../../src/spec/errors.ts';
import { openSafetensors, writeSafetensors } from '../../src/formats/safetensors.ts';

const folder = mkdtempSync(join(tmpdir(), 'safetensors-'));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

const tensors = [
  { name: 'conv1.weight', shape: [2, 3], values: Float32Array.of(1, -0, NaN, Infinity, 1e-45, 3) },
  { name: 'conv1.bias', shape: [1], values: Float32Array.of(7) },
];

describe('a file', () => {
  test('gives back what was written, with its metadata', async () => {
    const path = join(folder, 'whole.safetensors');
    const { bytes, sha256 } = await writeSafetensors(path, tensors, tensors, { classes: '["à","b"]' });
    expect(readFileSync(path)).toHaveLength(bytes);
    expect(sha256).toMatch(/^[0-9a-f]{64}$/);
    const file = await openSafetensors(path);
    expect(file.metadata).toEqual({ classes: '["à","b"]' });
    for (const { name, shape, values } of tensors) {
      expect(file.shapes.get(name)).toEqual(shape);
      expect(await file.read(name)).toEqual(values);
    }
    await file.close();
  });

  test('is the same whether its tensors come whole or in pieces', async () => {
    const [whole, pieces] = [join(folder, 'one.safetensors'), join(folder, 'pieces.safetensors')];
    const cut = tensors.flatMap(({ name, values }) => [...values].map((value) => ({ name, values: Float32Array.of(value) })));
    expect(await writeSafetensors(pieces, tensors, cut)).toEqual(await writeSafetensors(whole, tensors, tensors));
    expect(readFileSync(pieces)).toEqual(readFileSync(whole));
  });

  test('is not written where tensors are missing or do not fit', async () => {
    const path = join(folder, 'none.safetensors');
    const [weight, bias] = tensors as [(typeof tensors)[0], (typeof tensors)[0]];
    const half = { ...weight, values: weight.values.subarray(3) };
    for (const unfit of [[half], [half, bias], [half, half, half, bias], [weight, bias, bias]])
      await expect(writeSafetensors(path, tensors, unfit)).rejects.toThrow(StorageError);
    await expect(writeSafetensors(path, tensors, tensors.slice(1))).rejects.toThrow(StorageError);
    await expect(writeSafetensors(path, tensors, tensors.slice(0, 1))).rejects.toThrow(StorageError);
    await expect(openSafetensors(path)).rejects.toThrow(StorageError);
  });

  test('that was cut or changed anywhere in its header is refused or read, never a crash', async () => {
    const path = join(folder, 'changed.safetensors');
    await writeSafetensors(path, tensors, tensors);
    const good = readFileSync(path);
    const header = 8 + Number(good.readBigUInt64LE());
    await fc.assert(
      fc.asyncProperty(fc.nat(header - 1), fc.integer({ min: 1, max: 255 }), fc.boolean(), async (at, change, cut) => {
        const bad = Buffer.from(cut ? good.subarray(0, at) : good);
        if (!cut) bad[at] = (bad[at] ?? 0) ^ change;
        writeFileSync(path, bad);
        const result = await openSafetensors(path).catch((error: unknown) => error);
        if (result instanceof Error) expect(result).toBeInstanceOf(StorageError);
        else await (result as Awaited<ReturnType<typeof openSafetensors>>).close();
      }),
    );
  });
});
