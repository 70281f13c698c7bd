// Which kernels this process computes with, chosen once at start: the fast ones where TensorFlow and the device have them, else the portable.
// Invariant: both choices compute the same function; test/tower/kernels.test.ts compares them.

import type { Activation } from './activation.ts';
import {
  composedNormalisedActivation,
  hasNativeNormalisedActivation,
  nativeNormalisedActivation,
} from './normalisedActivation.ts';
import { bandedResponseNorm, portableResponseNorm } from './responseNorm.ts';
import { hasWorkspaceMaxPool, portableMaxPool, workspaceMaxPool } from './maxPool.ts';
import type { MaxPool } from './maxPool.ts';
import { deviceInfo } from './tensorflow.ts';
import tf from '@tensorflow/tfjs-node-gpu';

export interface Kernels {
  readonly maxPool: MaxPool;
  readonly normalisedActivation: (channels: number) => Activation;
}

/** TensorFlow's plain ops, on every device. */
export const portableKernels: Kernels = {
  maxPool: portableMaxPool,
  normalisedActivation: (channels) => composedNormalisedActivation(portableResponseNorm(channels)),
};

/** The fastest kernels that work here. */
export function chooseKernels(): Kernels {
  const onCpu = deviceInfo().kind === 'cpu';
  return {
    maxPool: onCpu && probeWorkspaceMaxPool() ? workspaceMaxPool : portableMaxPool,
    normalisedActivation:
      onCpu && hasNativeNormalisedActivation()
        ? () => nativeNormalisedActivation()
        : (channels) => composedNormalisedActivation(bandedResponseNorm(channels)),
  };
}

function probeWorkspaceMaxPool(): boolean {
  const probe = tf.ones([1, 3, 3, 8]);
  const works = hasWorkspaceMaxPool(probe);
  probe.dispose();
  return works;
}
