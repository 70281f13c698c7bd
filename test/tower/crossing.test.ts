// A crossing's backward pass is the transpose of its forward pass, over both towers together: <gather(x), z> = <x, reduceScatter(z)>.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import tf from '@tensorflow/tfjs-node-gpu';
import { memoryExchangePair } from '../../src/protocol/memoryExchange.ts';
import { otherTower, towers } from '../../src/spec/layout.ts';
import { gatherForward, reduceScatterBackward } from '../../src/tower/crossing.ts';
import type { CrossingWeights, Send } from '../../src/tower/crossing.ts';
import { chooseKernels } from '../../src/tower/kernels.ts';
import { dense } from '../../src/tower/linearMap.ts';
import type { LinearMap } from '../../src/tower/linearMap.ts';
import { dispose, download, upload } from '../../src/tower/tensorflow.ts';
import type { Tensor } from '../../src/tower/tensorflow.ts';
import { drawNormal, inner, norm, valuesOf } from './tensors.ts';

interface CrossingCase {
  readonly map: LinearMap;
  /** Of one tower's input. */
  readonly x: readonly number[];
  /** Of one block of weights. */
  readonly w: readonly number[];
}

function sendPair(phase: 'forward' | 'backward'): [Send, Send] {
  const exchanges = memoryExchangePair();
  const tag = { step: 0, site: 'crossing', phase, microBatch: 0 };
  return exchanges.map((exchange): Send => {
    return (mine) => {
      const { received } = exchange.swap(tag, download(mine));
      return async () => upload(await received);
    };
  }) as [Send, Send];
}

/** The classic bug: what the peer sends back is not added. */
function withoutAddition(send: Send): Send {
  return (mine) => {
    const receive = send(mine);
    return async () => tf.zerosLike(await receive());
  };
}

/** (<gather(x), z> - <x, reduceScatter(z)>) / (|gather(x)| |z|), for random x, z and weights in both towers. */
async function adjointGap({ map, x: xShape, w: wShape }: CrossingCase, spoil = (send: Send) => send): Promise<number> {
  const draw = (name: string, shape: readonly number[]): [Tensor, Tensor] => [
    upload(drawNormal(`${name} 0`, shape)),
    upload(drawNormal(`${name} 1`, shape)),
  ];
  const x = draw('x', xShape);
  const own = draw('own', wShape);
  const peer = draw('peer', wShape);
  const weights = towers.map((tower): CrossingWeights => ({ own: own[tower], peer: peer[tower] }));

  const sends = sendPair('forward');
  const forward = await Promise.all(towers.map((tower) => gatherForward(map, weights[tower]!, x[tower], sends[tower]).finish()));
  // Near the outputs themselves, so that no term of the inner products is small by chance.
  const z = draw('z', forward[0]!.z.shape).map((drawn, tower) => tf.add(drawn, forward[tower]!.z));
  const sendsBack = sendPair('backward').map(spoil);
  const backward = await Promise.all(
    towers.map(async (tower) => {
      const features = { x: x[tower], xPeer: forward[tower]!.xPeer };
      const { weights: blocks, input } = reduceScatterBackward(map, weights[tower]!, features, z[tower]!, sendsBack[tower]!);
      return { blocks, dx: await input?.finish() };
    }),
  );

  const both = (tensors: readonly Tensor[]): Float32Array => Float32Array.from(tensors.flatMap((t) => [...download(t).values]));
  const y = both(forward.map((one) => one.z));
  const gap = inner(y, both(z)) - inner(both(x), both(backward.map(({ dx }) => dx!)));
  const scale = norm(y) * norm(both(z));
  dispose(...x, ...own, ...peer, ...z);
  for (const { z: output, xPeer } of forward) dispose(output, xPeer);
  for (const { dx, blocks } of backward) dispose(dx, blocks?.dOwn, blocks?.dPeer);
  return Math.abs(gap) / scale;
}

const { convolution } = chooseKernels();

const convolutions = fc
  .record({
    pictures: fc.integer({ min: 1, max: 3 }),
    height: fc.integer({ min: 5, max: 9 }),
    width: fc.integer({ min: 5, max: 9 }),
    channels: fc.integer({ min: 1, max: 6 }),
    kernels: fc.integer({ min: 1, max: 6 }),
    kernelSize: fc.integer({ min: 1, max: 5 }),
    stride: fc.integer({ min: 1, max: 3 }),
    padding: fc.constantFrom('same', 'valid'),
  })
  .map(({ pictures, height, width, channels, kernels, kernelSize, stride, padding }): CrossingCase => ({
    map: convolution({ kernelSize, stride, padding }),
    x: [pictures, height, width, channels],
    w: [kernelSize, kernelSize, channels, kernels],
  }));

const denses = fc
  .tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 40 }))
  .map(([pictures, inputs, units]): CrossingCase => ({ map: dense, x: [pictures, inputs], w: [inputs, units] }));

const conv3 = {
  map: convolution({ kernelSize: 3, stride: 1, padding: 'same' }),
  x: [2, 5, 5, 4],
  w: [3, 3, 4, 6],
};
const fc6 = { map: dense, x: [3, 16], w: [16, 8] };

/** float32 sums of up to 300 products: 2^-24 times the root of their number is 1e-6. */
const rounding = 2e-6;

describe.each([
  { layer: 'convolution', cases: convolutions, example: conv3 },
  { layer: 'dense layer', cases: denses, example: fc6 },
])('a crossing $layer', ({ cases, example }) => {
  test('is gathered forward and reduce-scattered backward, one the transpose of the other', async () => {
    await fc.assert(
      fc.asyncProperty(cases, async (one) => {
        expect(await adjointGap(one)).toBeLessThan(rounding);
      }),
      { numRuns: 60 },
    );
  });

  test('is not its transpose where the addition is forgotten', async () => {
    expect(await adjointGap(example)).toBeLessThan(rounding);
    expect(await adjointGap(example, withoutAddition)).toBeGreaterThan(0.1);
  });

  test('gives each tower its own outputs by all inputs', async () => {
    const { map, x: xShape, w: wShape } = example;
    const [x0, x1] = [drawNormal('x 0', xShape), drawNormal('x 1', xShape)].map(upload) as [Tensor, Tensor];
    const sends = sendPair('forward');
    const results = await Promise.all(
      towers.map(async (tower) => {
        const own = upload(drawNormal(`own ${tower}`, wShape));
        const peer = upload(drawNormal(`peer ${tower}`, wShape));
        const { z, xPeer } = await gatherForward(map, { own, peer }, tower === 0 ? x0 : x1, sends[tower]).finish();
        const whole = tower === 0 ? [own, peer] : [peer, own]; // Tower 0's rows come first.
        const expected = map.apply(tf.concat([x0, x1], -1), tf.concat(whole, -2));
        return { z: valuesOf(z), expected: valuesOf(expected), xPeer: valuesOf(xPeer), peerOf: otherTower(tower) };
      }),
    );
    for (const { z, expected, xPeer, peerOf } of results) {
      expect(xPeer).toEqual(download(peerOf === 0 ? x0 : x1).values);
      expect(norm(z.map((value, i) => value - expected[i]!)) / norm(expected)).toBeLessThan(rounding);
    }
  });
});
