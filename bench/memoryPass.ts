// The other yardstick: how fast this process reads one large tensor and writes another. Kernels that do little with each number are bound by
// it; maps that fit the cache can beat it.

import tf from '@tensorflow/tfjs-node-gpu';
import { reluForward } from '../src/tower/relu.ts';
import { median } from './statistics.ts';
import { timeCalls } from './timeCalls.ts';

/** 64 MiB: no cache of a core holds it. */
const floats = 16 * 2 ** 20;
const bytesPerFloat = 4;

/** Bytes a second, read and written together. */
export function measureMemoryPass(): number {
  const x = tf.ones<tf.Rank>([floats]);
  const times = timeCalls(() => {
    reluForward(x).dispose();
  });
  x.dispose();
  return (2 * bytesPerFloat * floats * 1000) / median(times);
}
