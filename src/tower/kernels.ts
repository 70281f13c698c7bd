// Which kernels this process computes with, chosen once at start: the fast ones where TensorFlow and the device have them, else the portable.
// Invariant: both choices compute the same function; test/tower/kernels.test.ts compares them.

import type { ActivationName, PoolWindow, ResponseNormRule } from '../spec/network.ts';
import { hasNativeRectified, nativeRectified, portableActivation } from './activation.ts';
import type { Activation } from './activation.ts';
import {
  composedNormalisedActivation,
  hasNativeNormalisedActivation,
  nativeNormalisedActivation,
} from './normalisedActivation.ts';
import { bandedResponseNorm, portableResponseNorm } from './responseNorm.ts';
import type { ResponseNorm } from './responseNorm.ts';
import { hasWorkspaceMaxPool, portableMaxPool, workspaceMaxPool } from './maxPool.ts';
import type { MaxPool } from './maxPool.ts';
import { hasWinogradConvolution, portableConvolution, suitsWinograd, winogradConvolution } from './convolution.ts';
import type { Sliding } from './convolution.ts';
import type { LinearMap } from './linearMap.ts';
import { hasNativeShiftPixels, nativeShiftPixels, portableShiftPixels } from './pictures.ts';
import type { ShiftPixels } from './pictures.ts';
import { hasNativeSoftmaxCrossEntropy, nativeSoftmaxCrossEntropy, portableSoftmaxCrossEntropy } from './softmaxCrossEntropy.ts';
import type { SoftmaxCrossEntropy } from './softmaxCrossEntropy.ts';
import { deviceInfo } from './tensorflow.ts';
import { hasNativeUpdate, nativeSquaredNorm, nativeUpdate, portableSquaredNorm, portableUpdate } from './updateRule.ts';
import type { SquaredNorm, Update } from './updateRule.ts';

export interface Kernels {
  readonly convolution: (sliding: Sliding) => LinearMap;
  readonly maxPool: (window?: PoolWindow) => MaxPool;
  /** Bias and nonlinearity in one. */
  readonly activation: (name: ActivationName) => Activation;
  /** Bias, ReLU and LRN in one. */
  readonly normalisedActivation: (channels: number, rule?: ResponseNormRule) => Activation;
  readonly responseNorm: (channels: number, rule?: ResponseNormRule) => ResponseNorm;
  readonly shiftPixels: ShiftPixels;
  readonly softmaxCrossEntropy: SoftmaxCrossEntropy;
  readonly update: Update;
  readonly squaredNorm: SquaredNorm;
}

/** TensorFlow's plain ops, on every device. */
export const portableKernels: Kernels = {
  convolution: portableConvolution,
  maxPool: portableMaxPool,
  activation: portableActivation,
  normalisedActivation: (channels, rule) => composedNormalisedActivation(portableResponseNorm(channels, rule)),
  responseNorm: portableResponseNorm,
  shiftPixels: portableShiftPixels,
  softmaxCrossEntropy: portableSoftmaxCrossEntropy,
  update: portableUpdate,
  squaredNorm: portableSquaredNorm,
};

/** The fastest kernels that work here. */
export function chooseKernels(): Kernels {
  const onCpu = deviceInfo().kind === 'cpu';
  const hasWinograd = onCpu && hasWinogradConvolution();
  const updatesNatively = onCpu && hasNativeUpdate();
  const rectifiesNatively = onCpu && hasNativeRectified();
  return {
    convolution: (sliding) =>
      hasWinograd && suitsWinograd(sliding) ? winogradConvolution(sliding) : portableConvolution(sliding),
    maxPool: onCpu && hasWorkspaceMaxPool() ? workspaceMaxPool : portableMaxPool,
    activation: (name) => (rectifiesNatively && name === 'relu' ? nativeRectified : portableActivation(name)),
    normalisedActivation:
      onCpu && hasNativeNormalisedActivation()
        ? (_channels, rule) => nativeNormalisedActivation(rule)
        : (channels, rule) => composedNormalisedActivation(bandedResponseNorm(channels, rule)),
    responseNorm: bandedResponseNorm,
    shiftPixels: onCpu && hasNativeShiftPixels() ? nativeShiftPixels : portableShiftPixels,
    softmaxCrossEntropy: onCpu && hasNativeSoftmaxCrossEntropy() ? nativeSoftmaxCrossEntropy : portableSoftmaxCrossEntropy,
    update: updatesNatively ? nativeUpdate : portableUpdate,
    squaredNorm: updatesNatively ? nativeSquaredNorm : portableSquaredNorm,
  };
}
