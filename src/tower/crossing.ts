// A crossing: the layer sees the features of both towers, its weights are two blocks, `own` and `peer` (paper, section 3.5, layer 3; here the
// dense layers too). Forward is a gather, backward the reduce-scatter that is its transpose.
// Invariant: what travels is hidden behind the work on the own half, and behind that on other pictures (convStack.ts); dx is complete only with the
// peer's part added.

import type { GradientsWanted } from '../spec/trainedLayers.ts';
import type { LinearMap } from './linearMap.ts';
import { add, dispose } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';

/** Hands a tensor to the peer at once; the call it returns waits for the peer's under the same tag, and gives it away. */
export type Send = (mine: Tensor) => () => Promise<Tensor>;

/** The sender of a site: a layer, or a part of one such as `conv1.lrn`. */
export type Link = (site: string) => Send;

export interface CrossingWeights {
  readonly own: Tensor;
  readonly peer: Tensor;
}

/** Work that cannot be finished before the peer's part is there. What can be done without it has been done; other work may be done meanwhile. */
export interface Underway<T> {
  /** Waits for the peer's part, and does the rest. To be called once. */
  finish(): Promise<T>;
}

/** z = x * own + xPeer * peer; xPeer, the peer's features, is given away with it. x has been sent when it returns. */
export function gatherForward(
  map: LinearMap,
  { own, peer }: CrossingWeights,
  x: Tensor,
  send: Send,
): Underway<{ z: Tensor; xPeer: Tensor }> {
  const receive = send(x);
  const ownPart = map.apply(x, own);
  return {
    async finish() {
      const xPeer = await receive();
      const peerPart = map.apply(xPeer, peer);
      const z = add(ownPart, peerPart);
      dispose(ownPart, peerPart);
      return { z, xPeer };
    },
  };
}

/** The gradients of a crossing. */
export interface CrossingGradients {
  /** Of the two blocks; none where they are not wanted. */
  readonly weights: { readonly dOwn: Tensor; readonly dPeer: Tensor } | undefined;
  /** dx, the peer's part of it included; none where it is not wanted. */
  readonly input: Underway<Tensor> | undefined;
}

/** The gradients of a crossing from dz: x, xPeer and dz are needed no longer when it returns. Nothing is sent where dx is not wanted. */
export function reduceScatterBackward(
  map: LinearMap,
  { own, peer }: CrossingWeights,
  { x, xPeer }: { x: Tensor; xPeer: Tensor },
  dz: Tensor,
  send: Send,
  wanted: GradientsWanted = { parameters: true, input: true },
): CrossingGradients {
  const sendPeerPart = (): (() => Promise<Tensor>) => {
    const dxPeer = map.inputGradient(dz, peer, xPeer.shape);
    const receive = send(dxPeer);
    dxPeer.dispose();
    return receive;
  };
  const receive = wanted.input ? sendPeerPart() : undefined;
  const dxOwn = wanted.input ? map.inputGradient(dz, own, x.shape) : undefined;
  const weights = wanted.parameters
    ? { dOwn: map.weightGradient(x, dz, own.shape), dPeer: map.weightGradient(xPeer, dz, peer.shape) }
    : undefined;
  if (receive === undefined || dxOwn === undefined) return { weights, input: undefined };
  return {
    weights,
    input: {
      async finish() {
        const dxFromPeer = await receive();
        const dx = add(dxOwn, dxFromPeer);
        dispose(dxOwn, dxFromPeer);
        return dx;
      },
    },
  };
}
