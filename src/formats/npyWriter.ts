// Writes a dict of layers as bvlc_alexnet.npy holds one: a .npy of one object, whose pickle (protocol 3: Python 3, any NumPy) is
// layer -> [weights, biases]. Sources: the opcodes as Python's pickletools lists them; what NumPy's arrays reduce to.
// Invariant: one tensor is in memory at a time; its values go to the file as they are.

import { DataError } from '../spec/errors.ts';
import { sizeOf } from '../spec/layout.ts';
import type { NamedTensor, TensorShape } from './safetensors.ts';
import { bytesOf, writeWholeFile } from './wholeFile.ts';
import type { WrittenFile } from './wholeFile.ts';

/** Writes tensors named `layer.weight`, `layer.bias` to `path`, each layer's one after the other; throws DataError on other names, StorageError where the file system refuses. */
export async function writeLayersNpy(path: string, tensors: AsyncIterable<NamedTensor>): Promise<WrittenFile> {
  return writeWholeFile(path, async (write) => {
    await write(npyHeader);
    await write(
      ops(0x80, 3, reconstructArray, mark, integer(1), emptyTuple, arrayType('O8', '|'), newFalse, emptyList, emptyDict),
    );
    let open: string | undefined;
    for await (const { name, shape, values } of tensors) {
      const [, layer] = /^(.+)\.(weight|bias)$/.exec(name) ?? [];
      if (layer === undefined) throw new DataError(`${name} is neither a weight nor a bias: a .npy of layers cannot hold it`);
      if (layer !== open) await write(ops(...(open === undefined ? [] : [appends, setItem]), text(layer), emptyList, mark));
      open = layer;
      await write(arrayBefore({ name, shape }, values.byteLength));
      await write(bytesOf(values));
      await write(ops(tuple, build));
    }
    await write(ops(...(open === undefined ? [] : [appends, setItem]), append, tuple, build, stop));
  });
}

/** Version 1 of the format; the data starts at a multiple of 64. */
const npyHeader = ((): Buffer => {
  const start = 10;
  const dict = "{'descr': '|O', 'fortran_order': False, 'shape': (), }";
  const length = Math.ceil((start + dict.length + 1) / 64) * 64 - start;
  const preamble = Buffer.from('\x93NUMPY\x01\x00  ', 'latin1');
  preamble.writeUInt16LE(length, 8);
  return Buffer.concat([preamble, Buffer.from(`${dict.padEnd(length - 1)}\n`)]);
})();

type Op = number | Buffer;

function ops(...parts: readonly Op[]): Buffer {
  return Buffer.concat(parts.map((part) => (typeof part === 'number' ? Buffer.of(part) : part)));
}

const [mark, stop, append, appends, build, reduce, setItem, tuple] = [0x28, 0x2e, 0x61, 0x65, 0x62, 0x52, 0x73, 0x74];
const [emptyTuple, emptyList, emptyDict, none, newFalse, tuple1, tuple3] = [0x29, 0x5d, 0x7d, 0x4e, 0x89, 0x85, 0x87];

function imported(module: string, name: string): Buffer {
  return Buffer.from(`c${module}\n${name}\n`);
}

/** BININT, four bytes. */
function integer(value: number): Buffer {
  const bytes = Buffer.of(0x4a, 0, 0, 0, 0);
  bytes.writeInt32LE(value, 1);
  return bytes;
}

/** BINUNICODE. */
function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  const start = Buffer.of(0x58, 0, 0, 0, 0);
  start.writeUInt32LE(bytes.length, 1);
  return Buffer.concat([start, bytes]);
}

/** An array that is nothing yet: `_reconstruct(ndarray, (0,), b'b')`. */
const reconstructArray = ops(
  imported('numpy.core.multiarray', '_reconstruct'),
  imported('numpy', 'ndarray'),
  ops(integer(0), tuple1),
  Buffer.from('C\x01b'),
  ops(tuple3, reduce),
);

/** `dtype(code, False, True)` with its byte order, and no fields. */
function arrayType(code: 'O8' | 'f4', order: '|' | '<'): Buffer {
  const flags = code === 'O8' ? 63 : 0;
  return ops(
    ops(imported('numpy', 'dtype'), text(code), integer(0), integer(1), tuple3, reduce),
    ops(mark, integer(3), text(order), none, none, none, integer(-1), integer(-1), integer(flags), tuple, build),
  );
}

/** An array of fp32 up to its bytes, of which there are `bytes`. */
function arrayBefore({ name, shape }: TensorShape, bytes: number): Buffer {
  if (bytes !== 4 * sizeOf(shape)) throw new Error(`${name} has ${String(bytes)} bytes for shape [${shape.join(', ')}]`);
  const length = Buffer.of(0x42, 0, 0, 0, 0);
  length.writeUInt32LE(bytes, 1);
  const dimensions = ops(mark, ...shape.map(integer), tuple);
  return ops(reconstructArray, mark, integer(1), dimensions, arrayType('f4', '<'), newFalse, length);
}
