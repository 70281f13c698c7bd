// Safetensors files: eight bytes of header length, a JSON header, then every tensor's bytes in the header's order. Little-endian fp32 only.
// Invariant: a file appears under its name only when it is whole (written aside, synced, renamed).

import { open, rename, rm } from 'node:fs/promises';
import { StorageError } from '../spec/errors.ts';
import { sizeOf } from '../spec/layout.ts';

export interface NamedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

const bytesPerFloat = 4;
/** Readers map the data; it starts at a multiple of this. */
const alignment = 8;

/** Writes tensors to `path` in the order given; throws StorageError where the file system refuses. */
export async function writeSafetensors(
  path: string,
  tensors: readonly NamedTensor[],
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const header: Record<string, unknown> = { __metadata__: metadata };
  let offset = 0;
  for (const { name, shape } of tensors) {
    const end = offset + sizeOf(shape) * bytesPerFloat;
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, end] };
    offset = end;
  }
  const json = JSON.stringify(header);
  const padded = json.padEnd(
    Math.ceil(Buffer.byteLength(json) / alignment) * alignment - Buffer.byteLength(json) + json.length,
    ' ',
  );
  const length = Buffer.alloc(alignment);
  length.writeBigUInt64LE(BigInt(Buffer.byteLength(padded)));

  const temporary = `${path}.tmp-${String(process.pid)}`;
  try {
    const file = await open(temporary, 'wx');
    try {
      await file.writeFile(length);
      await file.writeFile(padded);
      for (const { values } of tensors) {
        await file.writeFile(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
      }
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw new StorageError(`${path} could not be written: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}
