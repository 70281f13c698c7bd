// The network as an ONNX graph: pixels in, logits and probabilities out, both towers as one grouped network (paper, section 3.5).
// Invariant: the graph does at test time what the towers do, in their order (src/tower): colours, mean, padding, then layer by layer.
// Source of the operators: ONNX's Operators.md, opset 13. Maps are [N,C,H,W] here, and weights [out, in, kh, kw].

import type { RunConfig } from '../spec/config.ts';
import type { ConvPlan, NetworkPlan } from '../spec/network.ts';
import { inputChannels } from '../spec/network.ts';
import { dataTypes } from './onnxMessages.ts';

export const opset = 13;

/** How pixels become the network's input, and what dropout does at test time. */
export interface PixelRule extends Pick<RunConfig, 'channelOrder' | 'pixels' | 'dropout' | 'dropoutForm'> {
  /** Of the training pictures, per channel in 0..255; one value for grey ones. */
  readonly mean: readonly number[];
  readonly deviation: readonly number[];
}

/** GraphProto without the network's weights, which its nodes name. */
export function onnxGraph(plan: NetworkPlan, rule: PixelRule): object {
  const { spec } = plan;
  const graph = new Graph();
  let x = prepare(graph, plan, rule);
  for (const [i, conv] of plan.convs.entries()) x = convolve(graph, plan, conv, { x, isFirst: i === 0 });
  // fc6's rows are ordered (position, channel).
  x = graph.add('Transpose', [x], { perm: [0, 2, 3, 1] });
  x = graph.add('Flatten', [x], { axis: 1 });
  const keep =
    rule.dropoutForm === 'paper' && rule.dropout > 0 ? graph.floats('dropout.keep', [], [1 - rule.dropout]) : undefined;
  for (const { spec: dense } of plan.denses) {
    const inputs = [x, `${dense.name}.weight`, `${dense.name}.bias`];
    if (dense.hidden) {
      x = graph.add(operators[spec.activation], [graph.add('Gemm', inputs)]);
      if (keep !== undefined) x = graph.add('Mul', [x, keep]);
    } else {
      graph.add('Gemm', inputs, {}, 'logits');
      graph.add('Softmax', ['logits'], { axis: 1 }, 'probabilities');
    }
  }
  const side = { dimValue: spec.inputSize };
  return {
    name: spec.name,
    node: graph.nodes,
    initializer: graph.constants,
    input: [value('images', [{ dimParam: 'N' }, { dimValue: inputChannels }, side, side])],
    output: ['logits', 'probabilities'].map((name) => value(name, [{ dimParam: 'N' }, { dimValue: plan.classes }])),
  };
}

const operators = { relu: 'Relu', tanh: 'Tanh', sigmoid: 'Sigmoid' } as const;

/** As preparePictures of src/tower/pictures.ts; grey pictures come as three equal channels. */
function prepare(graph: Graph, { spec }: NetworkPlan, { mean, deviation, pixels, channelOrder }: PixelRule): string {
  const colour = Array.from({ length: inputChannels }, (_, c) => mean[c % mean.length] ?? 0);
  let x = graph.add('Sub', ['images', graph.floats('images.mean', [1, inputChannels, 1, 1], colour)]);
  if (channelOrder === 'bgr' && mean.length === inputChannels)
    x = graph.add('Gather', [x, graph.integers('images.order', [2, 1, 0])], { axis: 1 });
  if (pixels === 'standardized') {
    const divisor = deviation.reduce((sum, value) => sum + value, 0) / deviation.length;
    x = graph.add('Mul', [x, graph.floats('images.scale', [], [1 / divisor])]);
  }
  const padding = spec.inputPadding;
  if (padding === 0) return x;
  return graph.add('Pad', [x, graph.integers('images.padding', [0, 0, 0, 0, 0, 0, padding, padding])]);
}

/** As convSteps of src/tower/convSteps.ts. */
function convolve(graph: Graph, plan: NetworkPlan, conv: ConvPlan, { x, isFirst }: { x: string; isFirst: boolean }): string {
  const { activation, activationPlace } = plan.spec;
  const { name, kernelSize, stride, padding, crosses, responseNorm, pool } = conv.spec;
  const border = padding === 'same' ? (kernelSize - 1) / 2 : 0;
  let y = graph.add('Conv', [x, `${name}.weight`, `${name}.bias`], {
    kernel_shape: [kernelSize, kernelSize],
    strides: [stride, stride],
    pads: [border, border, border, border],
    group: crosses || isFirst ? 1 : 2,
  });
  const activate = (): void => {
    y = graph.add(operators[activation], [y]);
  };
  const activatesLast = responseNorm && activationPlace === 'after-pool';
  if (!activatesLast) activate();
  if (responseNorm) y = normalise(graph, plan, y);
  if (pool) {
    const { size, stride: apart } = plan.spec.poolWindow;
    y = graph.add('MaxPool', [y], { kernel_shape: [size, size], strides: [apart, apart] });
  }
  if (activatesLast) activate();
  return y;
}

/** ONNX's alpha is shared out over the neighbours; the paper's is each one's. */
function normalise(graph: Graph, { spec: { lrn } }: NetworkPlan, x: string): string {
  const size = 2 * lrn.radius + 1;
  const attributes = { size, alpha: new Float(lrn.alpha * size), beta: new Float(lrn.beta), bias: new Float(lrn.bias) };
  if (lrn.scope === 'global') return graph.add('LRN', [x], attributes);
  const halves = graph.addMany('Split', [x], { axis: 1 }, 2).map((half) => graph.add('LRN', [half], attributes));
  return graph.add('Concat', halves, { axis: 1 });
}

/** Tells a float from an integer, which JavaScript does not. */
class Float {
  readonly value: number;

  constructor(value: number) {
    this.value = value;
  }
}

type AttributeValue = number | readonly number[] | Float;

/** Nodes in the order in which they are computed, and small constants. */
class Graph {
  readonly nodes: object[] = [];
  readonly constants: object[] = [];

  /** Appends a node of one output, and gives its name. */
  add(
    opType: string,
    input: readonly string[],
    attributes: Readonly<Record<string, AttributeValue>> = {},
    output?: string,
  ): string {
    const name = output ?? `${opType.toLowerCase()}_${String(this.nodes.length)}`;
    this.#push(opType, input, attributes, [name]);
    return name;
  }

  addMany(
    opType: string,
    input: readonly string[],
    attributes: Readonly<Record<string, AttributeValue>>,
    count: number,
  ): string[] {
    const outputs = Array.from({ length: count }, (_, i) => `${opType.toLowerCase()}_${String(this.nodes.length)}_${String(i)}`);
    this.#push(opType, input, attributes, outputs);
    return outputs;
  }

  floats(name: string, dims: readonly number[], values: readonly number[]): string {
    const rawData = new Uint8Array(Float32Array.from(values).buffer);
    this.constants.push({ name, dims, dataType: dataTypes.float, rawData });
    return name;
  }

  integers(name: string, values: readonly number[]): string {
    const rawData = new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
    this.constants.push({ name, dims: [values.length], dataType: dataTypes.int64, rawData });
    return name;
  }

  #push(opType: string, input: readonly string[], attributes: Readonly<Record<string, AttributeValue>>, output: string[]): void {
    const attribute = Object.entries(attributes).map(([name, content]) => ({ name, ...attributeContent(content) }));
    this.nodes.push({ name: `${opType}_${String(this.nodes.length)}`, opType, input, output, attribute });
  }
}

/** With AttributeProto.AttributeType: FLOAT 1, INT 2, INTS 7. */
function attributeContent(content: AttributeValue): object {
  if (content instanceof Float) return { f: content.value, type: 1 };
  return typeof content === 'number' ? { i: content, type: 2 } : { ints: content, type: 7 };
}

function value(name: string, dim: readonly object[]): object {
  return { name, type: { tensorType: { elemType: dataTypes.float, shape: { dim } } } };
}
