// Safetensors files: eight bytes of header length, a JSON header, then every tensor's bytes in the header's order. Little-endian.
// Invariant: a file appears under its name only when it is whole (wholeFile.ts), tensors pass through piece by piece, and nothing
// that a header claims is believed before it is checked against the file.

import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { z } from 'zod';
import { StorageError } from '../spec/errors.ts';
import { sizeOf } from '../spec/layout.ts';
import { bytesOf, writeWholeFile } from './wholeFile.ts';
import type { WrittenFile } from './wholeFile.ts';

/** A tensor without its values. */
export interface TensorShape {
  readonly name: string;
  readonly shape: readonly number[];
}

export interface NamedTensor extends TensorShape {
  readonly values: Float32Array;
}

/** Values of a tensor that follow one another: all of them, or a part when its other parts come before and after. */
export interface TensorPiece {
  readonly name: string;
  readonly values: Float32Array;
}

const bytesPerFloat = 4;
/** Readers map the data; it starts at a multiple of this. */
const alignment = 8;

/**
 * Writes tensors to `path` as they come, whole or in pieces, in the order of `shapes`; a piece's memory may be used again once the next one is
 * asked for. Throws StorageError where the file system refuses.
 */
export async function writeSafetensors(
  path: string,
  shapes: readonly TensorShape[],
  pieces: AsyncIterable<TensorPiece> | Iterable<TensorPiece>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<WrittenFile> {
  return writeWholeFile(path, async (write) => {
    await write(headerOf(shapes, metadata));
    const expected = shapes.values();
    let [current, missing]: [string | undefined, number] = [undefined, 0];
    for await (const { name, values } of pieces) {
      if (missing === 0) {
        const next = expected.next().value;
        [current, missing] = [next?.name, sizeOf(next?.shape ?? [])];
      }
      if (name !== current || values.length > missing) throw new Error(`${name} does not fit the header`);
      missing -= values.length;
      await write(bytesOf(values));
    }
    if (missing > 0 || expected.next().done !== true) throw new Error('tensors are missing');
  });
}

function headerOf(shapes: readonly TensorShape[], metadata: Readonly<Record<string, string>>): Uint8Array {
  // Without a prototype: a name may be any text, __proto__ too.
  const header = Object.assign(Object.create(null) as Record<string, unknown>, { __metadata__: metadata });
  let offset = 0;
  for (const { name, shape } of shapes) {
    const end = offset + sizeOf(shape) * bytesPerFloat;
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, end] };
    offset = end;
  }
  const json = Buffer.from(JSON.stringify(header));
  const padded = Buffer.alloc(alignment + Math.ceil(json.length / alignment) * alignment, ' ');
  padded.writeBigUInt64LE(BigInt(padded.length - alignment));
  json.copy(padded, alignment);
  return padded;
}

/** Far above any header of ours: 61 million parameters make one of 2 KiB. */
const maxHeaderBytes = 1 << 20;

const headerSchema = z.record(
  z.string().min(1).max(256),
  z.strictObject({
    dtype: z.literal('F32'),
    shape: z.array(z.int().min(0)).max(8),
    data_offsets: z.tuple([z.int().min(0), z.int().min(0)]),
  }),
);

/** An open file whose tensors are read one by one. */
export interface SafetensorsFile {
  readonly path: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  /** The values of one tensor; throws StorageError where the file system refuses. */
  read(name: string): Promise<Float32Array>;
  close(): Promise<void>;
}

/** Opens a file and checks its header against its size; throws StorageError where the file cannot be read or is not what it claims to be. */
export async function openSafetensors(path: string): Promise<SafetensorsFile> {
  const file = await open(path).catch((error: unknown) => {
    throw new StorageError(`${path} could not be opened: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  });
  try {
    const { start, metadata, tensors } = await readHeader(file);
    return {
      path,
      metadata,
      shapes: new Map([...tensors].map(([name, { shape }]) => [name, shape])),
      read: async (name) => {
        const tensor = tensors.get(name);
        if (tensor === undefined) throw new StorageError(`${path} has no tensor ${name}`);
        const bytes = await readExactly(file, start + tensor.data_offsets[0], sizeOf(tensor.shape) * bytesPerFloat);
        return new Float32Array(bytes.buffer, 0, bytes.length / bytesPerFloat);
      },
      close: () => file.close(),
    };
  } catch (error) {
    await file.close();
    throw new StorageError(`${path} is not a safetensors file: ${messageOf(error)}`, { cause: error });
  }
}

function messageOf(error: unknown): string {
  const issue = error instanceof z.ZodError ? error.issues[0] : undefined;
  if (issue !== undefined) return `its header is wrong at ${issue.path.join('.') || 'its top'}: ${issue.message}`;
  return error instanceof Error ? error.message : String(error);
}

async function readHeader(file: FileHandle) {
  const { size } = await file.stat();
  const length = Number((await readExactly(file, 0, alignment)).readBigUInt64LE());
  if (length > Math.min(maxHeaderBytes, size - alignment)) throw new Error(`a header of ${String(length)} bytes`);
  const json: unknown = JSON.parse((await readExactly(file, alignment, length)).toString('utf8'));
  const { __metadata__: metadata = {}, ...rest } = z
    .looseObject({ __metadata__: z.record(z.string(), z.string()).optional() })
    .parse(json);
  const tensors = new Map(Object.entries(headerSchema.parse(rest)));
  const start = alignment + length;
  let end = 0;
  for (const [
    name,
    {
      shape,
      data_offsets: [from, to],
    },
  ] of [...tensors].sort(([, a], [, b]) => a.data_offsets[0] - b.data_offsets[0])) {
    if (from !== end || to - from !== sizeOf(shape) * bytesPerFloat || !Number.isSafeInteger(to))
      throw new Error(`${name} does not lie where its shape says`);
    end = to;
  }
  if (start + end !== size) throw new Error(`its tensors take ${String(end)} bytes, but ${String(size - start)} are there`);
  return { start, metadata, tensors };
}

async function readExactly(file: FileHandle, position: number, length: number): Promise<Buffer<ArrayBuffer>> {
  const buffer = Buffer.from(new ArrayBuffer(length));
  let done = 0;
  while (done < length) {
    const { bytesRead } = await file.read(buffer, done, length - done, position + done);
    if (bytesRead === 0) throw new Error(`it ends ${String(length - done)} bytes early`);
    done += bytesRead;
  }
  return buffer;
}
