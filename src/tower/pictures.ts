// From the wire to the first layer, on the device: uint8 pixels [N,H,W,C] become fp32 pictures [N,S,S,3] without their mean colour.
// Small pictures are enlarged here (bilinear), and grey ones repeated to three channels: they travel at their own size.

import { inputChannels } from '../spec/network.ts';
import { attribute, float32, runOp, uploadPixels } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';
import tf from '@tensorflow/tfjs-node-gpu';

export interface PictureRule {
  /** S, the network's input size. */
  readonly size: number;
  /** Per channel of the data, in 0..255. */
  readonly mean: readonly number[];
  /** What pixels are divided by after the mean is subtracted; 1 leaves them as they are (the paper's way). */
  readonly deviation: number;
}

export interface Pixels {
  readonly count: number;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  /** [count, height, width, channels]. */
  readonly bytes: Uint8Array;
}

const resizeAttributes = [float32, attribute.bool('align_corners', false), attribute.bool('half_pixel_centers', true)];

/** Gives pictures [N,S,S,3]. */
export function preparePictures(pixels: Pixels, rule: PictureRule): Tensor {
  return tf.tidy(() => {
    const { count, height, width, channels } = pixels;
    const row = height * width * channels;
    const raw = uploadPixels(pixels.bytes, [count, row]);
    // One row of means as long as a picture: broadcasting along a last axis of 1 or 3 would not vectorise.
    const mean = Float32Array.from({ length: row }, (_, i) => rule.mean[i % channels] ?? 0);
    let centred: Tensor = tf.sub(raw, tf.tensor2d(mean, [1, row]));
    if (rule.deviation !== 1) centred = tf.mul(centred, 1 / rule.deviation);
    let pictures: Tensor = tf.reshape(centred, [count, height, width, channels]);
    if (channels === 1)
      pictures = tf.concat(
        Array.from({ length: inputChannels }, () => pictures),
        3,
      );
    if (height === rule.size && width === rule.size) return pictures;
    return runOp('ResizeBilinear', resizeAttributes, [pictures, tf.tensor1d([rule.size, rule.size], 'int32')]);
  });
}
