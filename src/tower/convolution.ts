// Convolution and its two gradients (paper, section 3.5), on N pictures of H x W with C channels: x [N,H,W,C], w [KH,KW,C,K], y [N,H',W',K].
// Invariant: the three functions are one bilinear map and its transposes; dense.ts has the same three.

import type { ConvSpec } from '../spec/network.ts';
import type { LinearMap } from './linearMap.ts';
import { attribute, float32, runOp } from './tensorflow.ts';
import type { Attribute, Tensor } from './tensorflow.ts';
import tf from '@tensorflow/tfjs-node-gpu';

/** The map of one convolution layer; stride and padding come from its table row. */
export function convolution(spec: Pick<ConvSpec, 'stride' | 'padding'>): LinearMap {
  const { stride, padding } = spec;
  const attributes: Attribute[] = [
    float32,
    attribute.int('strides', [1, stride, stride, 1]),
    // Explicit paddings would do as well, but with them TensorFlow takes slower kernels for the gradients (docs/performance.md).
    attribute.string('padding', padding.toUpperCase()),
    attribute.int('explicit_paddings', []),
    attribute.string('data_format', 'NHWC'),
    attribute.bool('use_cudnn_on_gpu', true),
    attribute.int('dilations', [1, 1, 1, 1]),
  ];

  return {
    apply: (x, w) => runOp('Conv2D', attributes, [x, w]),

    inputGradient: (dy, w, xShape) => withShape(xShape, (shape) => runOp('Conv2DBackpropInput', attributes, [shape, w, dy])),

    weightGradient: (x, dy, wShape) => withShape(wShape, (shape) => runOp('Conv2DBackpropFilter', attributes, [x, shape, dy])),
  };
}

function withShape(shape: readonly number[], run: (shape: Tensor) => Tensor): Tensor {
  const tensor = tf.tensor1d([...shape], 'int32');
  const result = run(tensor);
  tensor.dispose();
  return result;
}
