// The initial draw of every parameter: weights N(0, sd), biases one value a layer.
// Sources: the paper, section 5; He et al. 2015, equation 10; layer definitions of cuda-convnet2 (initW, initB) and of Caffe's
// bvlc_alexnet (weight_filler, bias_filler).

import type { RunConfig } from './config.ts';
import { assertNever } from './errors.ts';
import type { ParameterBlock } from './layout.ts';

/** Standard deviation of a layer's weights, and the value of its biases. */
export interface InitialDraw {
  readonly sd: number;
  readonly bias: number;
}

/** How `init` draws the layer of a block. */
export function initialDraw(
  init: RunConfig['init'],
  { layer, fanIn, paperBias }: Pick<ParameterBlock, 'layer' | 'fanIn' | 'paperBias'>,
): InitialDraw {
  switch (init) {
    case 'paper':
      return { sd: 0.01, bias: paperBias };
    case 'he':
      return { sd: Math.sqrt(2 / fanIn), bias: 0 };
    case 'cuda-convnet2':
      return { sd: ['conv3', 'conv4', 'conv5'].includes(layer) ? 0.03 : 0.01, bias: paperBias };
    case 'caffe':
      return { sd: ['fc6', 'fc7'].includes(layer) ? 0.005 : 0.01, bias: 0.1 * paperBias };
    default:
      return assertNever(init);
  }
}
