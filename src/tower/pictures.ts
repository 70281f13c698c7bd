// From the wire to the first layer, on the device: uint8 pixels [N,H,W,C] become fp32 pictures [N,S,S,3] without their mean colour, and
// zeros are added at the bottom and on the right where the network asks for them.
// Small pictures are enlarged here (bilinear), and grey ones repeated to three channels: they travel at their own size.

import { inputChannels } from '../spec/network.ts';
import { matMul } from './linearMap.ts';
import { attribute, float32, runOp, uploadPixels } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';
import tf from '@tensorflow/tfjs-node-gpu';

export interface PictureRule {
  /** Of the network's input, without and with its padding. */
  readonly size: number;
  readonly padding: number;
  /** Per channel of the data, in 0..255. */
  readonly mean: readonly number[];
  /** What pixels are divided by after the mean is subtracted; 1 leaves them as they are (the paper's way). */
  readonly deviation: number;
  /** Order of the channels that the network sees; pictures travel, and the mean is given, as rgb. */
  readonly channelOrder?: 'rgb' | 'bgr';
}

export interface Pixels {
  readonly count: number;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  /** [count, height, width, channels]. */
  readonly bytes: Uint8Array;
  /** What is added to every pixel of each RGB picture, in 0..255 [count, 3]; not to the padding, and not to grey. */
  readonly colour?: Float32Array | undefined;
}

const resizeAttributes = [float32, attribute.bool('align_corners', false), attribute.bool('half_pixel_centers', true)];

/** Gives pictures [N,S+P,S+P,3] for a network of S pixels with P more of padding. */
export function preparePictures(pixels: Pixels, rule: PictureRule): Tensor {
  return tf.tidy(() => {
    const { size, padding } = rule;
    const { count, height, width, channels, bytes } = pixels;
    const isFullSize = height === size && width === size;
    // Pictures of full size are padded as bytes, a quarter of the traffic; the mean of a padded place is zero, so it stays zero.
    const padded = isFullSize ? padding : 0;
    const shape = [count, height + padded, width + padded, channels] as const;
    const raw = uploadPixels(bytes, [count, height, width, channels], padded);
    const rows = tf.reshape(raw, [count, -1]);
    const mean = meanRow(pixels, rule, padded);
    const colour = channels === inputChannels ? pixels.colour : undefined;
    const centred = colour === undefined ? tf.sub(rows, mean) : tf.add(rows, shifts(pixels, colour, mean, padded));
    let pictures = tf.reshape(centred, [...shape]);
    if (rule.channelOrder === 'bgr' && channels === inputChannels) pictures = tf.reverse(pictures, 3);
    if (rule.deviation !== 1) pictures = tf.mul(pictures, 1 / rule.deviation);
    if (channels === 1)
      pictures = tf.concat(
        Array.from({ length: inputChannels }, () => pictures),
        3,
      );
    if (isFullSize) return pictures;
    const enlarged = runOp('ResizeBilinear', resizeAttributes, [pictures, tf.tensor1d([size, size], 'int32')]);
    return padding === 0
      ? enlarged
      : tf.pad(enlarged, [
          [0, 0],
          [0, padding],
          [0, padding],
          [0, 0],
        ]);
  });
}

/** The mean of every place of a picture, as one row: broadcasting along a last axis of 1 or 3 would not vectorise. */
function meanRow(pixels: Pixels, { mean }: PictureRule, padding: number): Tensor {
  const row = colourRow(pixels, mean, padding);
  return tf.tensor2d(row, [1, row.length]);
}

/** What each picture's places are shifted by, its colour less the mean, as one product: [1, r, g, b] by a row for each of the four. */
function shifts(pixels: Pixels, colour: Float32Array, mean: Tensor, padding: number): Tensor {
  const channels = Array.from({ length: inputChannels }, (_, c) => c);
  const rows = channels.map((c) =>
    colourRow(
      pixels,
      channels.map((other) => Number(other === c)),
      padding,
    ),
  );
  const basis = tf.concat([tf.neg(mean), ...rows.map((row) => tf.tensor2d(row, [1, row.length]))], 0);
  const factors = tf.concat([tf.ones([pixels.count, 1]), tf.tensor2d(colour, [pixels.count, inputChannels])], 1);
  return matMul(factors, basis, false, false);
}

/** One value a channel at every place of a picture, and zero in its padding. */
function colourRow({ height, width, channels }: Pixels, values: readonly number[], padding: number): Float32Array {
  const row = new Float32Array((height + padding) * (width + padding) * channels);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < channels; c++) row[(y * (width + padding) + x) * channels + c] = values[c] ?? 0;
    }
  }
  return row;
}
