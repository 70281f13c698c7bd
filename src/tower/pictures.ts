// From the wire to the first layer, on the device: uint8 pixels [N,H,W,C] become fp32 pictures [N,S,S,3] without their mean colour, and
// zeros are added at the bottom and on the right where the network asks for them.
// Small pictures are enlarged here (bilinear), and grey ones repeated to three channels: they travel at their own size.

import type { TensorData } from '../spec/exchange.ts';
import { inputChannels } from '../spec/network.ts';
import { matMul } from './linearMap.ts';
import { add, attribute, canRun, float32, reshape, runOp, upload, uploadBytes } from './tensorflow.ts';
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

/**
 * Pixels as fp32 [N,H+P,W+P,C], to each of which its channel's shift is added; with P rows and columns of zeros at the bottom and on the right.
 * Shifts are [1,C], the same for all pictures, or [N,C].
 */
export type ShiftPixels = (pixels: Pixels, shifts: TensorData, padding: number) => Tensor;

const resizeAttributes = [float32, attribute.bool('align_corners', false), attribute.bool('half_pixel_centers', true)];

/** Gives pictures [N,S+P,S+P,3] for a network of S pixels with P more of padding. */
export function preparePictures(pixels: Pixels, rule: PictureRule, shiftPixels: ShiftPixels): Tensor {
  return tf.tidy(() => {
    const { size, padding } = rule;
    const { height, width, channels } = pixels;
    const isFullSize = height === size && width === size;
    let pictures = shiftPixels(pixels, shiftsOf(pixels, rule), isFullSize ? padding : 0);
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

/** The colour of each picture less the mean. */
function shiftsOf({ count, channels, colour }: Pixels, { mean }: PictureRule): TensorData {
  const pictures = colour === undefined || channels !== inputChannels ? 1 : count;
  const values = Float32Array.from({ length: pictures * channels }, (_, i) => {
    const own = pictures === 1 ? 0 : (colour?.[i] ?? 0);
    return own - (mean[i % channels] ?? 0);
  });
  return { shape: [pictures, channels], values };
}

/** By TensorFlow's ops, on every device. */
export const portableShiftPixels: ShiftPixels = (pixels, shifts, padding) => {
  const { count, height, width, channels } = pixels;
  const shape = [count, height + padding, width + padding, channels] as const;
  // Padded as bytes, a quarter of the traffic.
  let bytes = uploadBytes(pixels.bytes, [count, height, width, channels]);
  if (padding > 0) bytes = padBytes(bytes, padding);
  const floats = runOp('Cast', castUint8, [bytes]);
  // A picture as one row: broadcasting along a last axis of 1 or 3 would not vectorise.
  const rows = reshape(floats, [count, -1]);
  return reshape(add(rows, placesOf(upload(shifts), pixels, padding)), shape);
};

const padUint8 = [attribute.type('T', 'uint8'), attribute.type('Tpaddings', 'int32')];
const castUint8 = [attribute.type('SrcT', 'uint8'), attribute.type('DstT', 'float32'), attribute.bool('Truncate', false)];

function padBytes(bytes: Tensor, padding: number): Tensor {
  const [none, more] = [
    [0, 0],
    [0, padding],
  ] as const;
  return runOp('Pad', padUint8, [bytes, tf.tensor2d([none, more, more, none].flat(), [4, 2], 'int32')]);
}

/** Shifts [n,C] at every place of a picture, zero in its padding, as rows [n,(H+P)*(W+P)*C]: a product with ones where the channel is. */
function placesOf(shifts: Tensor, { height, width, channels }: Pixels, padding: number): Tensor {
  const floats = (height + padding) * (width + padding) * channels;
  const places = new Float32Array(channels * floats);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < channels; c++) places[c * floats + (y * (width + padding) + x) * channels + c] = 1;
    }
  }
  return matMul(shifts, upload({ shape: [channels, floats], values: places }), false, false);
}

/** By our own op (native/pictures.cc), in one pass. */
export const nativeShiftPixels: ShiftPixels = ({ count, height, width, channels, bytes }, shifts, padding) =>
  runOp(
    'CrosstowerPictures',
    [attribute.int('padding', padding)],
    [uploadBytes(bytes, [count, height, width, channels]), upload(shifts)],
  );

/** Whether the binding has our op: one pixel. */
export function hasNativeShiftPixels(): boolean {
  const pixel = { count: 1, height: 1, width: 1, channels: 1, bytes: Uint8Array.of(1) };
  return canRun(() => nativeShiftPixels(pixel, { shape: [1, 1], values: Float32Array.of(1) }, 0));
}
