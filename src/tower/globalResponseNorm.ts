// Response normalisation whose neighbours are maps of both towers (docs/adr/0012-global-lrn.md): the maps at the border, `radius` of them a
// tower, are swapped, and each tower normalises its own C maps beside the peer's. In the merged order tower 0's maps come first.
// Invariant: backward is the transpose: what a tower's outputs owe to the peer's maps is sent there and added.

import type { ResponseNormRule } from '../spec/network.ts';
import type { TowerIndex } from '../spec/layout.ts';
import type { Send } from './crossing.ts';
import type { ResponseNorm } from './responseNorm.ts';
import { add, dispose } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';
import tf from '@tensorflow/tfjs-node-gpu';

export interface GlobalResponseNorm {
  /** y from a tower's own maps x [N,H,W,C], borrowed, and what the backward pass needs. */
  forward(x: Tensor, send: Send): Promise<{ y: Tensor; saved: readonly Tensor[] }>;
  /** dx from dy, the peer's part of it included; frees nothing. */
  backward(dy: Tensor, saved: readonly Tensor[], send: Send): Promise<Tensor>;
  close(): void;
}

/** The norm of `tower`, whose own maps are `channels`; `norm` is one over channels + radius maps, which is closed with it. */
export function globalResponseNorm(
  norm: ResponseNorm,
  { tower, channels, radius }: { tower: TowerIndex; channels: number } & Pick<ResponseNormRule, 'radius'>,
): GlobalResponseNorm {
  if (channels < radius) throw new Error(`a tower of ${String(channels)} maps has no border of ${String(radius)}`);
  /** Beside the border lie the peer's maps: at the end of tower 0's, at the start of tower 1's. */
  const [ownStart, peerStart] = tower === 0 ? [0, channels] : [radius, 0];
  const borderStart = tower === 0 ? channels - radius : 0;
  const join = (own: Tensor, peer: Tensor): Tensor => tf.concat(tower === 0 ? [own, peer] : [peer, own], -1);

  return {
    async forward(x, send) {
      const border = sliceMaps(x, borderStart, radius);
      const receive = send(border);
      border.dispose();
      const fromPeer = await receive();
      const joined = join(x, fromPeer);
      fromPeer.dispose();
      const { y, saved } = norm.forward(joined);
      return { y: sliceMaps(y, ownStart, channels), saved: [joined, y, ...saved] };
    },
    async backward(dy, [joined, y, ...saved], send) {
      if (joined === undefined || y === undefined) throw new Error('the global response norm went forward without saving');
      const nothing = tf.zeros([...dy.shape.slice(0, -1), radius]);
      const dJoinedOut = join(dy, nothing);
      const dJoined = norm.backward(dJoinedOut, joined, y, saved);
      const dPeer = sliceMaps(dJoined, peerStart, radius);
      const receive = send(dPeer);
      const dOwn = sliceMaps(dJoined, ownStart, channels);
      dispose(nothing, dJoinedOut, dJoined, dPeer);
      const fromPeer = await receive();
      const dFromPeer = tf.pad(fromPeer, [
        [0, 0],
        [0, 0],
        [0, 0],
        [borderStart, channels - radius - borderStart],
      ]);
      const dx = add(dOwn, dFromPeer);
      dispose(fromPeer, dOwn, dFromPeer);
      return dx;
    },
    close: () => {
      norm.close();
    },
  };
}

function sliceMaps(x: Tensor, start: number, count: number): Tensor {
  return tf.slice(x, [...x.shape.slice(0, -1).map(() => 0), start], [...x.shape.slice(0, -1), count]);
}
