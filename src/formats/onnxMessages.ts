// The part of ONNX's messages that our graphs use, and the frame that carries tensors past protobuf's buffers.
// Source: field numbers of onnx/onnx.proto3, ONNX 1.x; a reader skips what a file does not have.
// Invariant: weights are the last fields of the graph, so that they go to the file one at a time.

import protobuf from 'protobufjs/light.js';

type Field = readonly [type: string, id: number, rule?: 'repeated'];

const messages: Readonly<Record<string, Readonly<Record<string, Field>>>> = {
  ModelProto: {
    irVersion: ['int64', 1],
    producerName: ['string', 2],
    producerVersion: ['string', 3],
    opsetImport: ['OperatorSetIdProto', 8, 'repeated'],
    metadataProps: ['StringStringEntryProto', 14, 'repeated'],
  },
  OperatorSetIdProto: { domain: ['string', 1], version: ['int64', 2] },
  StringStringEntryProto: { key: ['string', 1], value: ['string', 2] },
  GraphProto: {
    node: ['NodeProto', 1, 'repeated'],
    name: ['string', 2],
    initializer: ['TensorProto', 5, 'repeated'],
    input: ['ValueInfoProto', 11, 'repeated'],
    output: ['ValueInfoProto', 12, 'repeated'],
  },
  NodeProto: {
    input: ['string', 1, 'repeated'],
    output: ['string', 2, 'repeated'],
    name: ['string', 3],
    opType: ['string', 4],
    attribute: ['AttributeProto', 5, 'repeated'],
  },
  AttributeProto: {
    name: ['string', 1],
    f: ['float', 2],
    i: ['int64', 3],
    ints: ['int64', 8, 'repeated'],
    type: ['int32', 20],
  },
  TensorProto: {
    dims: ['int64', 1, 'repeated'],
    dataType: ['int32', 2],
    name: ['string', 8],
    rawData: ['bytes', 9],
  },
  ValueInfoProto: { name: ['string', 1], type: ['TypeProto', 2] },
  TypeProto: { tensorType: ['TensorTypeProto', 1] },
  TensorTypeProto: { elemType: ['int32', 1], shape: ['TensorShapeProto', 2] },
  TensorShapeProto: { dim: ['DimensionProto', 1, 'repeated'] },
  DimensionProto: { dimValue: ['int64', 1], dimParam: ['string', 2] },
};

const root = protobuf.Root.fromJSON({
  nested: Object.fromEntries(
    Object.entries(messages).map(([name, fields]) => [
      name,
      {
        fields: Object.fromEntries(
          Object.entries(fields).map(([field, [type, id, rule]]) => [
            field,
            { type, id, ...(rule === undefined ? {} : { rule }) },
          ]),
        ),
      },
    ]),
  ),
});

/** Numbers of the fields that the frame is made of, and that a reader looks for. */
export const fieldIds = {
  model: { producerName: 2, graph: 7, metadataProps: 14 },
  entry: { key: 1, value: 2 },
  graph: { initializer: 5 },
  tensor: { dims: 1, dataType: 2, name: 8, rawData: 9 },
} as const;

/** TensorProto.DataType. */
export const dataTypes = { float: 1, int64: 7 } as const;

/** The bytes of one message; throws where `content` does not fit its description. */
export function encodeMessage(name: string, content: object): Uint8Array {
  const type = root.lookupType(name);
  const problem = type.verify(content);
  if (problem !== null) throw new Error(`${name}: ${problem}`);
  return type.encode(type.create(content)).finish();
}

/** What stands before the bytes of a field of this length: its number and wire type, and the length. */
export function fieldStart(id: number, length: number): Uint8Array {
  const lengthDelimited = 2;
  return protobuf.Writer.create()
    .uint32((id << 3) | lengthDelimited)
    .uint32(length)
    .finish();
}
