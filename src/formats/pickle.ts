// A safe unpickler: the part of Python's pickle protocols 2 to 5 that NumPy's object arrays are written with, by Python 2 and by Python 3.
// Source: the opcodes as Python's pickletools lists them. Nothing of a file is ever called: the five names that arrays need become inert
// tags, any other name or opcode is refused, and dicts are Maps.
// Invariant: work and memory are bounded by the file's size and the limits below; no value is walked recursively.

import { DataError } from '../spec/errors.ts';

/** A NumPy array as it lies in a pickle: raw bytes and how to read them, or objects. */
export class PickledArray {
  shape: readonly number[] = [];
  /** NumPy's type code with its byte order, such as `<f4`. */
  dtype = '';
  isFortran = false;
  data: Uint8Array = new Uint8Array();
  /** Of an array of objects. */
  objects: readonly Value[] = [];
}

class PickledType {
  readonly code: string;
  order = '<';

  constructor(code: string) {
    this.code = code;
  }
}

class Tuple {
  readonly items: readonly Value[];

  constructor(items: readonly Value[]) {
    this.items = items;
  }
}

/** A name that a pickle imports. */
type Tag = { readonly tag: 'reconstruct' | 'ndarray' | 'dtype' | 'encode' | 'frombuffer' };

export type Value =
  null | boolean | number | string | Uint8Array | Value[] | Map<Value, Value> | Tuple | Tag | PickledType | PickledArray;

const tags: ReadonlyMap<string, Tag> = new Map(
  (
    [
      ['numpy.core.multiarray _reconstruct', 'reconstruct'],
      ['numpy._core.multiarray _reconstruct', 'reconstruct'],
      ['numpy ndarray', 'ndarray'],
      ['numpy dtype', 'dtype'],
      ['_codecs encode', 'encode'],
      // Protocol 5 only.
      ['numpy.core.numeric _frombuffer', 'frombuffer'],
      ['numpy._core.numeric _frombuffer', 'frombuffer'],
    ] as const
  ).map(([name, tag]) => [name, { tag }]),
);

/** AlexNet's file takes about 400 opcodes. */
const maxOpcodes = 100_000;
const mark = Symbol('mark');

/** Reads one pickle that starts at `bytes`; throws DataError on whatever it does not know. */
export function unpickle(bytes: Uint8Array): Value {
  return new Unpickler(bytes).run();
}

class Unpickler {
  readonly #bytes: Buffer;
  readonly #stack: (Value | typeof mark)[] = [];
  readonly #memo = new Map<number, Value>();
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  run(): Value {
    for (let count = 0; count < maxOpcodes; count++) {
      const opcode = this.#take(1).readUInt8();
      if (opcode === 0x2e) return this.#pop();
      this.#execute(opcode);
    }
    throw new DataError(`a pickle of more than ${String(maxOpcodes)} opcodes`);
  }

  #execute(opcode: number): void {
    switch (opcode) {
      case 0x80: // PROTO
        if (this.#take(1).readUInt8() > 5) throw new DataError('a pickle of a protocol above 5');
        return;
      case 0x95: // FRAME
        this.#take(8);
        return;
      case 0x28: // MARK
        this.#stack.push(mark);
        return;
      case 0x7d: // EMPTY_DICT
        this.#stack.push(new Map());
        return;
      case 0x5d: // EMPTY_LIST
        this.#stack.push([]);
        return;
      case 0x29: // EMPTY_TUPLE
        this.#stack.push(new Tuple([]));
        return;
      case 0x4e: // NONE
        this.#stack.push(null);
        return;
      case 0x88: // NEWTRUE
      case 0x89: // NEWFALSE
        this.#stack.push(opcode === 0x88);
        return;
      case 0x4b: // BININT1
        this.#stack.push(this.#take(1).readUInt8());
        return;
      case 0x4d: // BININT2
        this.#stack.push(this.#take(2).readUInt16LE());
        return;
      case 0x4a: // BININT
        this.#stack.push(this.#take(4).readInt32LE());
        return;
      case 0x8a: // LONG1
        this.#stack.push(this.#longInteger(this.#take(1).readUInt8()));
        return;
      case 0x47: // BINFLOAT
        this.#stack.push(this.#take(8).readDoubleBE());
        return;
      case 0x55: // SHORT_BINSTRING, a Python 2 str: text or raw bytes
      case 0x43: // SHORT_BINBYTES
        this.#stack.push(this.#take(this.#take(1).readUInt8()));
        return;
      case 0x54: // BINSTRING
      case 0x42: // BINBYTES
        this.#stack.push(this.#take(this.#take(4).readUInt32LE()));
        return;
      case 0x8e: // BINBYTES8
      case 0x96: // BYTEARRAY8
        this.#stack.push(this.#take(this.#length8()));
        return;
      case 0x8c: // SHORT_BINUNICODE
        this.#stack.push(this.#take(this.#take(1).readUInt8()).toString('utf8'));
        return;
      case 0x58: // BINUNICODE
        this.#stack.push(this.#take(this.#take(4).readUInt32LE()).toString('utf8'));
        return;
      case 0x8d: // BINUNICODE8
        this.#stack.push(this.#take(this.#length8()).toString('utf8'));
        return;
      case 0x71: // BINPUT
        this.#memo.set(this.#take(1).readUInt8(), this.#top());
        return;
      case 0x72: // LONG_BINPUT
        this.#memo.set(this.#take(4).readUInt32LE(), this.#top());
        return;
      case 0x94: // MEMOIZE
        this.#memo.set(this.#memo.size, this.#top());
        return;
      case 0x68: // BINGET
        this.#stack.push(this.#remembered(this.#take(1).readUInt8()));
        return;
      case 0x6a: // LONG_BINGET
        this.#stack.push(this.#remembered(this.#take(4).readUInt32LE()));
        return;
      case 0x85: // TUPLE1
      case 0x86: // TUPLE2
      case 0x87: // TUPLE3
        this.#stack.push(new Tuple(this.#popMany(opcode - 0x84)));
        return;
      case 0x74: // TUPLE
        this.#stack.push(new Tuple(this.#popToMark()));
        return;
      case 0x61: // APPEND
        this.#append([this.#pop()]);
        return;
      case 0x65: // APPENDS
        this.#append(this.#popToMark());
        return;
      case 0x73: // SETITEM
        this.#setItems(this.#popMany(2));
        return;
      case 0x75: // SETITEMS
        this.#setItems(this.#popToMark());
        return;
      case 0x63: // GLOBAL
        this.#stack.push(tagOf(this.#line(), this.#line()));
        return;
      case 0x93: {
        // STACK_GLOBAL
        const [module, name] = this.#popMany(2);
        this.#stack.push(tagOf(textOf(module), textOf(name)));
        return;
      }
      case 0x52: {
        // REDUCE
        const [callee, args] = this.#popMany(2);
        this.#stack.push(reduce(callee, args));
        return;
      }
      case 0x62: {
        // BUILD
        const state = this.#pop();
        build(this.#top(), state);
        return;
      }
      default:
        throw new DataError(`a pickle with opcode 0x${opcode.toString(16)}, which arrays do not need`);
    }
  }

  #take(length: number): Buffer {
    if (length > this.#bytes.length - this.#at) throw new DataError('a pickle that ends early');
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  #length8(): number {
    const length = this.#take(8).readBigUInt64LE();
    return length > BigInt(this.#bytes.length) ? Infinity : Number(length);
  }

  #longInteger(length: number): number {
    if (length > 6) throw new DataError('a pickle with an integer of more than 48 bits');
    return length === 0 ? 0 : this.#take(length).readIntLE(0, length);
  }

  #line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end < 0 || end - this.#at > 256) throw new DataError('a pickle with a name that does not end');
    return this.#take(end + 1 - this.#at)
      .toString('latin1')
      .slice(0, -1);
  }

  #top(): Value {
    const value = this.#stack.at(-1);
    if (value === undefined || value === mark) throw new DataError('a pickle that uses what is not there');
    return value;
  }

  #pop(): Value {
    const value = this.#top();
    this.#stack.pop();
    return value;
  }

  #popMany(count: number): Value[] {
    return Array.from({ length: count }, () => this.#pop()).reverse();
  }

  #popToMark(): Value[] {
    const at = this.#stack.lastIndexOf(mark);
    if (at < 0) throw new DataError('a pickle without a mark');
    return this.#stack.splice(at).slice(1) as Value[];
  }

  #remembered(key: number): Value {
    const value = this.#memo.get(key);
    if (value === undefined) throw new DataError('a pickle that remembers what was not said');
    return value;
  }

  #append(values: readonly Value[]): void {
    const list = this.#top();
    if (!Array.isArray(list)) throw new DataError('a pickle that appends to what is no list');
    for (const value of values) list.push(value);
  }

  #setItems(pairs: readonly Value[]): void {
    const map = this.#top();
    if (!(map instanceof Map) || pairs.length % 2 !== 0) throw new DataError('a pickle that sets items of what is no dict');
    for (let i = 0; i < pairs.length; i += 2) map.set(pairs[i] ?? null, pairs[i + 1] ?? null);
  }
}

function tagOf(module: string, name: string): Tag {
  const tag = tags.get(`${module} ${name}`);
  if (tag === undefined)
    throw new DataError(`a pickle that asks for ${`${module}.${name}`.slice(0, 80)}, which arrays do not need: it is not read`);
  return tag;
}

function reduce(callee: Value | undefined, args: Value | undefined): Value {
  if (!isTag(callee) || !(args instanceof Tuple)) throw new DataError('a pickle that calls what cannot be called');
  const [first, second, third, fourth] = args.items;
  switch (callee.tag) {
    case 'reconstruct':
      return new PickledArray();
    case 'dtype':
      return new PickledType(textOf(first));
    case 'encode':
      // How Python 3 writes bytes for Python 2: as text of one character a byte.
      if (typeof first !== 'string' || textOf(second) !== 'latin1')
        throw new DataError('a pickle that encodes something else than latin1 text');
      return Buffer.from(first, 'latin1');
    case 'frombuffer':
      return fill(new PickledArray(), { shape: third, type: second, isFortran: fourth === 'F', data: first });
    case 'ndarray':
      throw new DataError('a pickle that calls ndarray itself');
  }
}

/** What `__setstate__` would do: (version, order, ...) to a type, (version, shape, type, is Fortran, bytes) to an array. */
function build(target: Value, state: Value): void {
  if (!(state instanceof Tuple)) throw new DataError('a pickle with a state that is no tuple');
  if (target instanceof PickledType) {
    target.order = textOf(state.items[1]);
  } else if (target instanceof PickledArray) {
    const [, shape, type, isFortran, data] = state.items;
    fill(target, { shape, type, isFortran: isFortran === true, data });
  } else {
    throw new DataError('a pickle that builds what cannot be built');
  }
}

function fill(
  array: PickledArray,
  { shape, type, isFortran, data }: Record<'shape' | 'type' | 'data', Value | undefined> & { readonly isFortran: boolean },
): PickledArray {
  if (!(shape instanceof Tuple) || !(type instanceof PickledType) || !(data instanceof Uint8Array || Array.isArray(data)))
    throw new DataError('a pickle with an array that is none of numbers');
  array.shape = shape.items.map((size) => {
    if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0)
      throw new DataError('a pickle with an array of no shape');
    return size;
  });
  array.dtype = `${type.order}${type.code}`;
  array.isFortran = isFortran;
  if (data instanceof Uint8Array) array.data = data;
  else array.objects = data;
  return array;
}

function isTag(value: Value | undefined): value is Tag {
  return typeof value === 'object' && value !== null && 'tag' in value;
}

/** A Python text, be it unicode or a Python 2 str; throws DataError on anything else. */
export function textOf(value: Value | undefined): string {
  if (typeof value === 'string') return value;
  if (value instanceof Uint8Array && value.length <= 256) return Buffer.from(value).toString('latin1');
  throw new DataError('a pickle with a name that is no text');
}

/** The items of a list or tuple; nothing for anything else. */
export function itemsOf(value: Value | undefined): readonly Value[] | undefined {
  return Array.isArray(value) ? value : value instanceof Tuple ? value.items : undefined;
}
