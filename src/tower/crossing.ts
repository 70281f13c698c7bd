// A crossing: the layer sees the features of both towers, its weights are two blocks, `own` and `peer` (paper, section 3.5, layer 3; here the
// dense layers too). Forward is a gather, backward the reduce-scatter that is its transpose.
// Invariant: what travels is hidden behind the work on the own half, and dx is complete only with the peer's part added.

import type { LinearMap } from './linearMap.ts';
import { add, dispose } from './tensorflow.ts';
import type { Tensor } from './tensorflow.ts';

/** Hands a tensor to the peer at once; the call it returns waits for the peer's under the same tag, and gives it away. */
export type Send = (mine: Tensor) => () => Promise<Tensor>;

export interface CrossingWeights {
  readonly own: Tensor;
  readonly peer: Tensor;
}

/** z = x * own + xPeer * peer; xPeer, the peer's features, is given away with it. */
export async function gatherForward(
  map: LinearMap,
  { own, peer }: CrossingWeights,
  x: Tensor,
  send: Send,
): Promise<{ z: Tensor; xPeer: Tensor }> {
  const receive = send(x);
  const ownPart = map.apply(x, own);
  const xPeer = await receive();
  const peerPart = map.apply(xPeer, peer);
  const z = add(ownPart, peerPart);
  dispose(ownPart, peerPart);
  return { z, xPeer };
}

/** What a layer does of its backward pass: fine-tuning leaves the rest out. Both towers do the same. */
export interface BackwardPart {
  /** Its own parameters are trained. */
  readonly trains: boolean;
  /** A layer below it is trained. */
  readonly passesOn: boolean;
}

/** The gradients of a crossing's two blocks. */
export interface CrossingGradients {
  readonly dOwn: Tensor;
  readonly dPeer: Tensor;
}

/** The weights' gradients of a crossing from dz, where it trains, and dx, the peer's part of it included, where it passes on. */
export async function crossingBackward(
  map: LinearMap,
  weights: CrossingWeights,
  inputs: { x: Tensor; xPeer: Tensor },
  { dz, send, part }: { dz: Tensor; send: Send; part: BackwardPart },
): Promise<{ dx: Tensor | undefined; gradients: CrossingGradients | undefined }> {
  const gradients = (): CrossingGradients | undefined =>
    part.trains
      ? {
          dOwn: map.weightGradient(inputs.x, dz, weights.own.shape),
          dPeer: map.weightGradient(inputs.xPeer, dz, weights.peer.shape),
        }
      : undefined;
  if (!part.passesOn) return { dx: undefined, gradients: gradients() };
  return reduceScatterBackward(map, weights, inputs, { dz, send, meanwhile: gradients });
}

/** dx from dz; `meanwhile` is done while the peer's part of dx travels. */
async function reduceScatterBackward<T>(
  map: LinearMap,
  { own, peer }: CrossingWeights,
  { x, xPeer }: { x: Tensor; xPeer: Tensor },
  { dz, send, meanwhile }: { dz: Tensor; send: Send; meanwhile: () => T },
): Promise<{ dx: Tensor; gradients: T }> {
  const dxPeer = map.inputGradient(dz, peer, xPeer.shape);
  const receive = send(dxPeer);
  dxPeer.dispose();
  const dxOwn = map.inputGradient(dz, own, x.shape);
  const gradients = meanwhile();
  const dxFromPeer = await receive();
  const dx = add(dxOwn, dxFromPeer);
  dispose(dxOwn, dxFromPeer);
  return { dx, gradients };
}
