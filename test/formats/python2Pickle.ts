// A .npy as Python 2 and its NumPy wrote bvlc_alexnet.npy: a protocol-2 pickle whose texts and data are byte strings, with a memo that is
// used for what repeats. Made by hand, opcode by opcode, for no Python 2 is at hand.

type Op = string | number | Buffer;

function ops(...parts: readonly Op[]): Buffer {
  return Buffer.concat(
    parts.map((part) =>
      typeof part === 'number' ? Buffer.of(part) : typeof part === 'string' ? Buffer.from(part, 'latin1') : part,
    ),
  );
}

/** SHORT_BINSTRING or BINSTRING. */
function byteString(data: Buffer): Buffer {
  const start = Buffer.of(0x54, 0, 0, 0, 0);
  start.writeInt32LE(data.length, 1);
  return data.length < 256 ? ops(0x55, data.length, data) : ops(start, data);
}

/** A small integer as BININT1, or BININT2. */
function integer(value: number): Buffer {
  return value < 256 ? ops('K', value) : ops('M', value & 0xff, value >> 8);
}

const minusOne = ops('J', 0xff, 0xff, 0xff, 0xff);

export function pickleOfPython2(
  tensors: Readonly<Record<string, { shape: readonly number[]; values: readonly number[] }>>,
): Buffer {
  // Memo: 0 _reconstruct, 1 ndarray, 2 'b', 3 dtype f4.
  const reconstruct = ops('h', 0, 'h', 1, 'K', 0, 0x85, 'h', 2, 0x87, 'R');
  const first = ops(
    'cnumpy.core.multiarray\n_reconstruct\nq',
    0,
    'cnumpy\nndarray\nq',
    1,
    'K',
    0,
    0x85,
    'U',
    1,
    'bq',
    2,
    0x87,
    'R',
  );
  const objectType = ops('cnumpy\ndtype\n', byteString(Buffer.from('O8')), 'K', 0, 'K', 1, 0x87, 'R');
  const objectState = ops('(K', 3, 'U', 1, '|NNN', minusOne, minusOne, 'K', 63, 'tb');
  const floatType = ops('cnumpy\ndtype\n', byteString(Buffer.from('f4')), 'K', 0, 'K', 1, 0x87, 'Rq', 3);
  const floatState = ops('(K', 3, 'U', 1, '<NNN', minusOne, minusOne, 'K', 0, 'tb');
  const layers = new Map<string, Buffer[]>();
  for (const [i, [name, { shape, values }]] of Object.entries(tensors).entries()) {
    const layer = name.split('.')[0]!;
    const type = i === 0 ? ops(floatType, floatState) : ops('h', 3);
    const data = Buffer.from(Float32Array.from(values).buffer);
    // Python 2's Windows builds wrote sizes as long integers.
    const sizes = shape.map((size, axis) => (axis === 0 ? ops(0x8a, 1, size) : integer(size)));
    const array = ops(reconstruct, '(K', 1, '(', ...sizes, 't', type, 0x89, byteString(data), 'tb');
    layers.set(layer, [...(layers.get(layer) ?? []), array]);
  }
  const items = [...layers].map(([layer, arrays]) => ops(byteString(Buffer.from(layer)), ']q', 9, '(', ...arrays, 'e'));
  const pickle = ops(0x80, 2, first, '(K', 1, ')', objectType, objectState, 0x89, ']}(', ...items, 'ua', 'tb.');
  const header = "{'descr': '|O', 'fortran_order': False, 'shape': (), }".padEnd(69) + '\n';
  return ops('\x93NUMPY', 1, 0, header.length, 0, header, pickle);
}
