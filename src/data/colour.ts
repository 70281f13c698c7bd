// PCA colour (paper, section 4.1): to every pixel of a picture is added sum of a_i lambda_i p_i over the principal components p_i of the training
// set's RGB values, with a_i ~ N(0, sd) drawn once for each picture and epoch.
// The paper gives no unit for lambda. Its figures make sense for values in 0..1, where lambda_1 is about 0.2 and the shift a few levels of 255;
// so the covariance is taken there, and the shift brought back to 0..255.

import { randomKey, randomNormal } from '../spec/random.ts';
import { principalComponents } from './principalComponents.ts';

/** RGB offsets in 0..255 [N,3] for the pictures of a batch in an epoch: a pure function of seed, epoch and index. */
export function colourOffsets(
  covariance: readonly (readonly number[])[],
  { seed, sd }: { seed: number; sd: number },
): (epoch: number, indices: Uint32Array) => Float32Array {
  const components = principalComponents(covariance.map((row) => row.map((value) => value / 255 ** 2)));
  return (epoch, indices) => {
    const key = randomKey(seed, 'colour', '', epoch);
    const offsets = new Float32Array(3 * indices.length);
    for (const [n, index] of indices.entries()) {
      for (const [i, { variance, direction }] of components.entries()) {
        const amount = 255 * sd * randomNormal(key, 3 * index + i) * variance;
        for (let channel = 0; channel < 3; channel++) {
          offsets[3 * n + channel] = (offsets[3 * n + channel] ?? 0) + amount * (direction[channel] ?? 0);
        }
      }
    }
    return offsets;
  };
}
