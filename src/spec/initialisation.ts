// How weights and biases are first drawn: from N(0, sd), and to a constant.

import type { ParameterBlock } from './layout.ts';

export const initialisations = ['paper', 'he', 'cuda-convnet2', 'caffe'] as const;
export type Initialisation = (typeof initialisations)[number];

type Block = Pick<ParameterBlock, 'layer' | 'fanIn' | 'paperBias'>;

/** Standard deviation of a layer's weights. */
export function initialDeviation(init: Initialisation, { layer, fanIn }: Block): number {
  switch (init) {
    case 'paper': // Section 5.
      return 0.01;
    case 'he': // He et al., 2015: keeps the variance through a layer of ReLUs.
      return Math.sqrt(2 / fanIn);
    case 'cuda-convnet2': // initW of layers-imagenet-2gpu-model.cfg.
      return ['conv3', 'conv4', 'conv5'].includes(layer) ? 0.03 : 0.01;
    case 'caffe': // weight_filler of bvlc_alexnet's train_val.prototxt.
      return ['fc6', 'fc7'].includes(layer) ? 0.005 : 0.01;
  }
}

/** Initial value of a layer's biases. The paper sets some to 1, so that their ReLUs get positive inputs (section 5). */
export function initialBias(init: Initialisation, { paperBias }: Block): number {
  switch (init) {
    case 'paper':
    case 'cuda-convnet2':
      return paperBias;
    case 'he':
      return 0;
    case 'caffe': // bias_filler: .1 in the place of 1.
      return 0.1 * paperBias;
  }
}
