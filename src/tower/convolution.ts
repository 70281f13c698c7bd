// Convolution and its two gradients (paper, section 3.5), on N pictures of H x W with C channels: x [N,H,W,C], w [KH,KW,C,K], y [N,H',W',K].
// Either TensorFlow's ops, or ours by Winograd's algorithm (native/convolution.cc, ADR 19), which does a third to a fifth of the multiplications.
// Invariant: the three functions are one bilinear map and its transposes; linearMap.ts has the same three.

import type { ConvSpec } from '../spec/network.ts';
import type { LinearMap } from './linearMap.ts';
import { attribute, canRun, float32, reshape, runOp } from './tensorflow.ts';
import type { Attribute, Tensor } from './tensorflow.ts';
import tf from '@tensorflow/tfjs-node-gpu';

/** What a convolution's table row says about how its kernel goes over the maps. */
export type Sliding = Pick<ConvSpec, 'kernelSize' | 'stride' | 'padding'>;

/** The map of one convolution layer by TensorFlow's ops, on every device. */
export function portableConvolution({ stride, padding }: Omit<Sliding, 'kernelSize'>): LinearMap {
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

/** The same map by Winograd's algorithm, where the layer is of a kind that it knows: see `suitsWinograd`. */
export function winogradConvolution(sliding: Sliding): LinearMap {
  const { kernelSize, stride, padding } = sliding;
  const isSame = padding === 'same';
  const portable = portableConvolution(sliding);
  const attributes = [attribute.int('stride', stride), attribute.int('padding', isSame ? (kernelSize - 1) / 2 : 0)];
  const turned = [...attributes, attribute.int('turned', 1)];
  const sized = [...attributes, attribute.int('size', kernelSize)];
  return {
    apply: (x, w) => runOp('CrosstowerConvolution', attributes, [x, w]),

    inputGradient: (dy, w, xShape) =>
      isSame ? runOp('CrosstowerConvolution', turned, [dy, w]) : portable.inputGradient(dy, w, xShape),

    weightGradient: (x, dy) => runOp('CrosstowerConvolutionWeightGrad', sized, [x, dy]),
  };
}

/** Whether Winograd's algorithm knows the layer: kernels of 3 or 5 points or blocks of stride * stride points, and padding at stride 1 only. */
export function suitsWinograd({ kernelSize, stride, padding }: Sliding): boolean {
  const blocks = Math.ceil(kernelSize / stride);
  return (blocks === 3 || blocks === 5) && (padding === 'valid' || (stride === 1 && kernelSize % 2 === 1));
}

/** Whether the binding has our ops, and this machine can run them: one picture, there and back. */
export function hasWinogradConvolution(): boolean {
  const map = winogradConvolution({ kernelSize: 3, stride: 1, padding: 'same' });
  return canRun(() => {
    const ones = tf.ones([1, 3, 3, 1]);
    map.apply(ones, reshape(ones, [3, 3, 1, 1]));
    map.weightGradient(ones, ones, [3, 3, 1, 1]);
  });
}

function withShape(shape: readonly number[], run: (shape: Tensor) => Tensor): Tensor {
  const tensor = tf.tensor1d([...shape], 'int32');
  const result = run(tensor);
  tensor.dispose();
  return result;
}
